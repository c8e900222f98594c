"""An image classifier from the bytes of an image to a class and its probability."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError, check_unicode
from ktransformer.models import VisionTransformer
from ktransformer.tasks.description import ImageClassifierDescription
from ktransformer.tasks.graph_function import GraphMethod, graph_method
from ktransformer.tasks.inputs import to_tensor
from ktransformer.tasks.servable import LiteSignature, Servable, check_type

_FILES = tf.TensorSpec([None], tf.string, "images")


class ImageClassifier(Servable):
    """Decoding, resizing, scaling and a vision Transformer in one: every method is a graph.

    Images are resized to the model's `image_size`, bilinearly and regardless of their sides'
    ratio, as `keras.utils.image_dataset_from_directory` does, and scaled to [-1, 1].

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

    Raises:
        InputError: There are not as many names as classes.
        TypeError: `classes` is a single string, or `model` no `VisionTransformer`.

    Example:
        ```python
        classifier = ImageClassifier(model, ["cat", "dog"])
        classifier.classify([Path("rex.jpg").read_bytes()])["label"]
        ```
    """

    kind = ImageClassifierDescription.kind
    LITE_SIGNATURES = ("serving_default", "unit_pixels")
    model: VisionTransformer

    def __init__(self, model: VisionTransformer, classes: Sequence[str]) -> None:
        check_type("model", model, VisionTransformer)
        super().__init__(model, name="image_classifier")
        if isinstance(classes, str):
            raise TypeError("classes must be a list of names; got one string.")
        for name in classes:
            check_unicode("classes", name)
        if len(classes) != model.num_classes:
            raise InputError(
                f"There must be a name for each of the {model.num_classes} classes; "
                f"got {len(classes)} names."
            )
        if not model.built:
            model.build()
        self.classes = tuple(classes)
        # Here, not at the class: how many channels there are is the model's.
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

    def describe(self, signatures: Sequence[str], **others: Any) -> ImageClassifierDescription:
        return ImageClassifierDescription(
            signatures=tuple(signatures),
            image_size=self.model.image_size,
            channels=self.model.channels,
            classes=self.classes,
            **others,
        )

    def with_model(self, model: VisionTransformer) -> Self:
        return type(self)(model, self.classes)

    @graph_method(input_signature=[_FILES])
    def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies encoded images, strings `[B]`; see the class for what it returns.

        A string that is no image is an error of the whole batch (`InvalidArgumentError`).
        """
        shape = (*self.model.image_size, self.model.channels)

        def decode(content: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(self._decode(content), shape)

        pixels = tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        return self._with_labels(self._classify(pixels))

    def _classify_pixels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._with_labels(self._classify(tf.image.resize(images, self.model.image_size)))

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
        image = tf.io.decode_image(content, self.model.channels, expand_animations=False)
        return tf.image.resize(image, self.model.image_size)

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
