"""The images: read whole into memory, and split into the parts to train, choose and test on."""

import contextlib
import dataclasses
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError

KERAS_DATA = ("mnist", "fashion_mnist", "cifar10", "cifar100")
"""Keras' own data sets that `--data` knows; they are downloaded when first used."""

TEST_SHARE = 0.2
"""Share of the images that is held out to the end, where the data has no test part of its own."""
VALIDATION_SHARE = 0.2
"""Share of the other images that settings are chosen on."""


@dataclasses.dataclass(frozen=True)
class Images:
    """Images and the numbers of their classes."""

    pixels: np.ndarray
    """uint8 `[B, h, w, C]`."""
    labels: np.ndarray
    """int32 `[B]`."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Images":
        """Returns the images at these places, in their order."""
        return Images(self.pixels[indices], self.labels[indices])

    def __add__(self, others: "Images") -> "Images":
        """Returns these images and then the others."""
        return Images(
            np.concatenate([self.pixels, others.pixels]),
            np.concatenate([self.labels, others.labels]),
        )


@dataclasses.dataclass(frozen=True)
class Parts:
    """The images by purpose, and what the classes are called."""

    classes: list[str]
    train: Images
    validation: Images
    test: Images


def load(data: str, image_size: int, channels: int, split_seed: int = 0) -> Parts:
    """Reads a data set and splits it.

    Args:
        data: `digits`, one of `KERAS_DATA`, or a folder with a subfolder of images a class.
        image_size: Height and width that every image gets, in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        split_seed: Seed of the split, which so is the same for every seed of the training.

    Raises:
        InputError: There are no such data, they cannot be read, or a class has too few images.
    """
    if data in KERAS_DATA:
        return _keras_data(data, image_size, channels, split_seed)
    if data == "digits":
        classes, images = _digits(image_size, channels)
    elif Path(data).is_dir():
        classes, images = _folder(Path(data), image_size, channels)
    else:
        known = ", ".join(("digits", *KERAS_DATA))
        raise InputError(f"--data must be a folder or one of {known}; got {data!r}.")
    others, test = split(images, TEST_SHARE, classes, split_seed)
    return Parts(classes, *split(others, VALIDATION_SHARE, classes, split_seed), test)


def split(images: Images, share: float, classes: list[str], seed: int = 0) -> tuple[Images, Images]:
    """Splits off a share of each class, at least one image, drawn by a seed.

    Returns:
        What is left, and the share.

    Raises:
        InputError: A class would have no image left.
    """
    generator = np.random.default_rng(seed)
    left: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    for label, name in enumerate(classes):
        members = generator.permutation(np.flatnonzero(images.labels == label))
        count = max(1, round(share * len(members)))
        if count >= len(members):
            raise InputError(f"Every class needs at least 3 images; {name!r} has too few.")
        taken.append(members[:count])
        left.append(members[count:])
    return tuple(images.take(np.sort(np.concatenate(part))) for part in (left, taken))


def _digits(image_size: int, channels: int) -> tuple[list[str], Images]:
    """Reads scikit-learn's digits: 1,797 of 8 x 8 pixels, with values from 0 to 16."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("--data digits needs scikit-learn, which is not installed.") from error
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16))[..., None]
    return [str(name) for name in digits.target_names], Images(
        _conform(pixels, image_size, channels), digits.target.astype("int32")
    )


def _keras_data(name: str, image_size: int, channels: int, split_seed: int) -> Parts:
    """Loads one of Keras' data sets, which have a test part of their own."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras reports the download there.
            parts = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises no narrower one where a download fails.
        reason = " ".join(str(error).split())
        raise InputError(f"{name} cannot be downloaded ({reason}).") from error

    (pixels, labels), (test_pixels, test_labels) = parts

    def conformed(pixels: np.ndarray, labels: np.ndarray) -> Images:
        pixels = pixels[..., None] if pixels.ndim == 3 else pixels
        return Images(_conform(pixels, image_size, channels), labels.ravel().astype("int32"))

    classes = [str(label) for label in range(int(labels.max()) + 1)]
    train, validation = split(conformed(pixels, labels), VALIDATION_SHARE, classes, split_seed)
    return Parts(classes, train, validation, conformed(test_pixels, test_labels))


def _folder(folder: Path, image_size: int, channels: int) -> tuple[list[str], Images]:
    """Reads a folder's images; the names of its subfolders are the classes."""
    try:
        dataset = keras.utils.image_dataset_from_directory(
            folder,
            color_mode="grayscale" if channels == 1 else "rgb",
            image_size=(image_size, image_size),
            batch_size=None,
            shuffle=False,
            verbose=False,
        )
        pairs = [(_to_uint8(pixels), label) for pixels, label in dataset.as_numpy_iterator()]
    except (ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{folder} cannot be read as a folder of images: {reason}") from error
    if len(dataset.class_names) < 2:
        raise InputError(f"{folder} must hold a subfolder a class; got {dataset.class_names}.")
    pixels, labels = (np.stack(values) for values in zip(*pairs, strict=True))
    return dataset.class_names, Images(pixels, labels.astype("int32"))


def _conform(pixels: np.ndarray, image_size: int, channels: int) -> np.ndarray:
    """Gives images `[B, h, w, 1 or 3]` the wanted size and channels, as uint8."""
    images = tf.cast(pixels, "float32")
    if channels != pixels.shape[-1]:
        convert = tf.image.rgb_to_grayscale if channels == 1 else tf.image.grayscale_to_rgb
        images = convert(images)
    if pixels.shape[1:3] != (image_size, image_size):
        images = tf.image.resize(images, (image_size, image_size), antialias=True)
    return _to_uint8(images.numpy())


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype("uint8")
