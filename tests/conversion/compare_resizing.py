"""Prints how far a classifier's resized images are from Pillow's, and decoded JPEG files likewise.

Command (Pillow is no dependency of this package; from 13 on it resizes the columns of some images
before their rows, which is another rounding):

    pip install "pillow<12"
    python -m tests.conversion.compare_resizing
"""

import io

import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

from ktransformer.tasks import Resizing

SIDE = 224
SIZES = ((300, 400), (640, 480), (100, 130), (1000, 731), (33, 500), (225, 223))
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def main() -> None:
    print(f"Pillow {PIL.__version__}, TensorFlow {tf.__version__}, to {SIDE} x {SIDE}")
    generator = np.random.default_rng(0)
    images = [draw(generator, *size) for size in SIZES]
    for interpolation, filter_number in _PILLOW.items():
        for like_pillow in (False, True):
            resizing = Resizing(interpolation=interpolation, like_pillow=like_pillow)
            differences = []
            for image in images:
                wanted = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), filter_number))
                found = resizing.apply(tf.constant(image), (SIDE, SIDE)).numpy()
                differences.append(np.abs(np.rint(found) - wanted))
            print(f"{interpolation}, like_pillow={like_pillow}: {describe(differences)}")
    for like_pillow in (False, True):
        print(f"JPEG, like_pillow={like_pillow}: {describe(decoded(images, like_pillow))}")


def decoded(images: list[np.ndarray], like_pillow: bool) -> list[np.ndarray]:
    """Returns how far decoded JPEG files are from Pillow's."""
    differences = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        wanted = np.asarray(Image.open(file)).astype(float)
        found = Resizing(like_pillow=like_pillow).decode(tf.constant(file.getvalue()), 3).numpy()
        differences.append(np.abs(found - wanted))
    return differences


def describe(differences: list[np.ndarray]) -> str:
    values = np.concatenate([each.ravel() for each in differences])
    return (
        f"{(values > 0).mean():.2%} of the values differ, by {values.mean():.3f} in the mean and "
        f"{values.max():.0f} at most"
    )


def draw(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws an image of waves and noise."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / 9 + y / 13), 127 + 120 * np.cos(x * y / 900)]
    channels = [*waves, generator.uniform(0, 255, (height, width))]
    return np.stack(channels, axis=-1).clip(0, 255).astype("uint8")


if __name__ == "__main__":
    main()
