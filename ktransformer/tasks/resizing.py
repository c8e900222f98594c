"""How the images of a classifier get the size of its model."""

import dataclasses
from typing import Any

import tensorflow as tf

from ktransformer.config.checks import check, check_choice

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resizing:
    """How images of any size become those of a model.

    Raises:
        InputError: A value is outside its range.
    """

    interpolation: str = "bilinear"
    """`bilinear` or `bicubic`."""
    antialias: bool = False
    """Whether every pixel counts where an image becomes smaller, as in Pillow and torchvision:
    first the rows, then the columns, each time rounded to whole numbers from 0 to 255. Without,
    an image is sampled as `tf.image.resize` does by default, and not rounded."""
    size: tuple[int, int] | None = None
    """The height and width to resize to, of which the middle is cut out in the model's size; null
    for the model's size."""

    def __post_init__(self) -> None:
        check_choice(self, "interpolation", *INTERPOLATIONS)
        plain = type(self.antialias) is bool
        check(plain, "antialias must be true or false", antialias=self.antialias)
        sides = self.size
        whole = isinstance(sides, (tuple, list)) and [type(side) for side in sides] == [int, int]
        check(sides is None or whole, "size must be a height and a width", size=sides)
        if sides is not None:
            object.__setattr__(self, "size", tuple(sides))

    def check_size(self, image_size: tuple[int, int]) -> None:
        """Checks that a model's images can be cut out.

        Raises:
            InputError: `size` is smaller.
        """
        height, width = self.size or image_size
        fits = height >= image_size[0] and width >= image_size[1]
        check(fits, "size must be at least the model's image_size", size=self.size, of=image_size)

    def apply(self, images: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
        """Resizes images, and cuts out the middle.

        Args:
            images: Numbers from 0 to 255, `[h, w, C]` or `[B, h, w, C]`.
            image_size: The model's height and width.

        Returns:
            Float32 `[..., *image_size, C]`.
        """
        height, width = self.size or image_size
        if self.antialias:
            rows = tf.shape(images)[-3]
            images = self._resample(images, tf.stack([rows, width]))
            images = self._resample(images, (height, width))
        else:
            images = tf.image.resize(images, (height, width), self.interpolation)
        if (height, width) == image_size:
            return images
        top, left = (height - image_size[0]) // 2, (width - image_size[1]) // 2
        return images[..., top : top + image_size[0], left : left + image_size[1], :]

    def _resample(self, images: tf.Tensor, size: Any) -> tf.Tensor:
        """Resizes with a filter as wide as the pixels that become one, and rounds."""
        images = tf.image.resize(images, size, self.interpolation, antialias=True)
        return tf.clip_by_value(tf.floor(images + 0.5), 0.0, 255.0)
