"""An image classifier from the bytes of an image to a class and its probability."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.files.checksums import read_json
from ktransformer.models import VisionTransformer
from ktransformer.tasks.classes import checked_classes
from ktransformer.tasks.description import Description
from ktransformer.tasks.graph_function import GraphMethod, graph_method
from ktransformer.tasks.inputs import to_tensor
from ktransformer.tasks.registry import register_task
from ktransformer.tasks.resizing import Resizing
from ktransformer.tasks.task import LiteSignature, SignatureCheck, Task, check_type

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")
_FILES = tf.TensorSpec([None], tf.string, "images")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageClassifierDescription(Description):
    """The metadata of an export of an image classifier.

    Attributes:
        image_size: Height and width of the model's input, in pixels.
        channels: Channels of an image: 1 for grey, 3 for red, green and blue.
        classes: The names of the classes, in the order of their numbers.
        resizing: How images of another size are resized; None for bilinear sampling.
    """

    kind: str = "image classifier"
    image_size: tuple[int, int]
    channels: int
    classes: tuple[str, ...]
    resizing: Resizing | None = None


@register_task
class ImageClassifier(Task):
    """Decoding, resizing, scaling and a vision Transformer in one: every method is a graph.

    Images are resized to the model's `image_size`, bilinearly and regardless of their sides'
    ratio, as `keras.utils.image_dataset_from_directory` does, or as `resizing` says, and scaled to
    [-1, 1].

    As a SavedModel it has these signatures, B images and n classes:

    - `serving_default`: `images`, string `[B]`, each the bytes of a PNG or JPEG file; where C is
      3, of a GIF (its first frame) or a BMP file of three channels, too.
    - `pixels`: `images`, uint8 `[B, h, w, C]`, of any height and width.

    As a .tflite, which decodes and resizes nothing, h and w being the model's:

    - `serving_default`: `images`, uint8 `[B, h, w, C]`.
    - `unit_pixels`: `images`, float32 `[B, h, w, C]`, in [0, 1].

    All give `class`, int32 `[B]`, the most probable class; `probability`, float32 `[B]`, its
    probability; `probabilities`, float32 `[B, n]`; a SavedModel also `label`, string `[B]`, the
    name of the class. The names are in the description of the export.

    Args:
        model: A trained `VisionTransformer`, or a subclass of it; built here if it is not yet.
        classes: The names of its classes, in the order of their numbers.
        resizing: How images of another size are resized; None for bilinear sampling.

    Raises:
        InputError: There are not as many names as classes, or `resizing` makes smaller images than
            the model takes.
        TypeError: `classes` is a single string, or `model` no `VisionTransformer`.

    Example:
        ```python
        classifier = ImageClassifier(model, ["cat", "dog"])
        classifier.classify([Path("rex.jpg").read_bytes()])["label"]
        ```
    """

    description_class = ImageClassifierDescription
    kind = description_class.kind
    model_class = VisionTransformer
    LITE_SIGNATURES = ("serving_default", "unit_pixels")
    FILES = ("classes.json",)
    RANKED_BY: ClassVar[Mapping[str, str]] = {"class": "probability", "label": "probability"}
    IDENTITY = ("classes", "image_size", "channels", "resizing")
    model: VisionTransformer

    def __init__(
        self,
        model: VisionTransformer,
        classes: Sequence[str],
        *,
        resizing: Resizing | None = None,
    ) -> None:
        check_type("model", model, VisionTransformer)
        super().__init__(model, name="image_classifier")
        self.classes = checked_classes(classes, model.num_classes)
        self.resizing = resizing
        self._resizing = resizing or Resizing()
        self._resizing.check_size(model.image_size)
        if not model.built:
            model.build()
        # Made per object: the number of channels is the model's.
        pixels = tf.TensorSpec([None, None, None, model.channels], tf.uint8, "images")
        self.classify_pixels = GraphMethod(type(self)._classify_pixels, [pixels]).__get__(self)

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {"serving_default": self.classify, "pixels": self.classify_pixels}

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        shape = [*self.model.image_size, self.model.channels]
        step = tf.reshape(tf.range(tf.reduce_prod(shape)) * 37 % 256, [1, *shape])
        images = tf.tile(step, [batch_size or 2, 1, 1, 1])
        if name == "serving_default":
            function, probe, dtype = self._classify_bytes, tf.cast(images, tf.uint8), tf.uint8
        else:
            function, dtype = self.classify_unit_pixels, tf.float32
            probe = tf.cast(images, tf.float32) / 255
        inputs = {"images": tf.TensorSpec([batch_size, *shape], dtype)}
        return LiteSignature(function, inputs, {"images": probe})

    def probe(self, signature: str) -> Mapping[str, tf.Tensor] | None:
        images = self.lite_signature("serving_default", None).probe["images"]
        if signature == "serving_default":
            images = tf.stack([tf.io.encode_png(image) for image in images])
        return {"images": images}

    def describe(self, signatures: Sequence[str], **others: Any) -> ImageClassifierDescription:
        return ImageClassifierDescription(
            signatures=tuple(signatures),
            image_size=self.model.image_size,
            channels=self.model.channels,
            classes=self.classes,
            resizing=self.resizing,
            **others,
        )

    def search_wider(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        pixels = tf.cast(inputs["images"], tf.float32)
        units = pixels if signature == "unit_pixels" else pixels / 255
        found = self.classify_unit_pixels(units)["probabilities"]  # [B, N]
        classes = tf.broadcast_to(tf.range(len(self.classes)), tf.shape(found))
        return {"class": classes, "probability": found}

    def with_model(self, model: VisionTransformer) -> Self:
        # A subclass may lack an argument that is not used.
        others = {} if self.resizing is None else {"resizing": self.resizing}
        return type(self)(model, self.classes, **others)

    @property
    def config(self) -> dict[str, Any]:
        return {} if self.resizing is None else {"resizing": dataclasses.asdict(self.resizing)}

    def write_files(self, folder: Path) -> None:
        text = json.dumps(self.classes, indent=2, ensure_ascii=False)
        (folder / self.FILES[0]).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_folder(cls, model: VisionTransformer, folder: Path, config: dict[str, Any]) -> Self:
        path = folder / cls.FILES[0]
        _, classes = read_json(path)
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise InputError(f"{path} is damaged: it must be a list of names.")
        if "resizing" in config:
            config = {**config, "resizing": Resizing(**config["resizing"])}
        return cls(model, classes, **config)

    @classmethod
    def read_examples(cls, path: str | Path) -> list[Path]:
        """Lists the images in a folder and its subfolders, in the order of their names."""
        files = [file for file in sorted(Path(path).rglob("*")) if _is_image(file)]
        if not files:
            raise InputError(f"{path} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
        return files

    def signature_checks(self, export: Description, form: str) -> list[SignatureCheck]:
        """Returns the checks: a .tflite gets the pixels of the images, resized."""

        def contents(paths: Sequence[Path]) -> dict[str, np.ndarray]:
            return {"images": np.array([path.read_bytes() for path in paths], dtype=object)}

        def pixels(paths: Sequence[Path]) -> dict[str, np.ndarray]:
            return {"images": np.array([self._read_pixels(path) for path in paths])}

        def unit_pixels(paths: Sequence[Path]) -> dict[str, np.ndarray]:
            return {"images": pixels(paths)["images"].astype(np.float32) / 255}

        if form == "SavedModel":
            checks = [
                SignatureCheck("serving_default", self.classify, contents),
                SignatureCheck("pixels", self.classify_pixels, pixels),
            ]
        else:
            without_labels = frozenset({"label"})
            checks = [
                SignatureCheck("serving_default", self.classify_pixels, pixels, without_labels),
                SignatureCheck("unit_pixels", self.classify_unit_pixels, unit_pixels),
            ]
        return [check for check in checks if check.signature in export.signatures]

    def _read_pixels(self, path: Path) -> np.ndarray:
        try:
            return self.resized_pixels(path.read_bytes())
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @graph_method(input_signature=[_FILES])
    def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies encoded images, strings `[B]`; the class lists the outputs.

        A string that is no image is an error of the whole batch (`InvalidArgumentError`).
        """
        shape = (*self.model.image_size, self.model.channels)

        def decode(content: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(self._decode(content), shape)

        pixels = tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        return self._with_labels(self._classify(pixels))

    def _classify_pixels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._with_labels(self._classify(self._resize(images)))

    def _classify_bytes(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._classify(tf.cast(images, tf.float32))

    def classify_unit_pixels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies float images `[B, h, w, C]` in [0, 1], of the model's size; no labels."""
        shape = [None, *self.model.image_size, self.model.channels]
        return self._classify(to_tensor("images", images, tf.TensorSpec(shape, tf.float32)) * 255.0)

    def resized_pixels(self, content: bytes) -> np.ndarray:
        """Decodes and resizes one image as the graphs do: uint8 `[h, w, C]`, for a .tflite.

        Raises:
            InputError: It is no image.
        """
        try:
            image = self._decode(to_tensor("content", content, tf.TensorSpec([], tf.string)))
        except tf.errors.InvalidArgumentError as error:
            raise InputError(
                f"This is no image that {self.model.channels} channels can be read from, or a "
                "damaged one: PNG and JPEG will do."
            ) from error
        return np.rint(image.numpy()).astype(np.uint8)

    def _decode(self, content: tf.Tensor) -> tf.Tensor:
        """Turns the bytes of a file into float pixels `[h, w, C]` in [0, 255]."""
        return self._resize(self._resizing.decode(content, self.model.channels))

    def _resize(self, images: tf.Tensor) -> tf.Tensor:
        return self._resizing.apply(images, self.model.image_size)

    def _classify(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies float images `[B, h, w, C]` in [0, 255], of the model's size."""
        logits = self.model(pixels / 127.5 - 1.0, training=False)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        return {
            "class": tf.argmax(probabilities, axis=1, output_type=tf.int32),
            "probability": tf.reduce_max(probabilities, axis=1),
            "probabilities": probabilities,
        }

    def _with_labels(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {**outputs, "label": tf.gather(tf.constant(self.classes), outputs["class"])}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES
