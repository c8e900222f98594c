"""How the images of a classifier are decoded, and get the size of its model."""

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
    like_pillow: bool = False
    """Whether images are decoded and resized as by Pillow (before its version 13) and torchvision:
    every pixel counts where an image becomes smaller; first the rows, then the columns, each time
    rounded to whole numbers from 0 to 255. Without, an image is decoded and sampled as
    `tf.io.decode_image` and `tf.image.resize` do by default, and not rounded."""
    size: tuple[int, int] | None = None
    """The height and width to resize to, of which the middle is cut out in the model's size; null
    for the model's size."""

    def __post_init__(self) -> None:
        check_choice(self, "interpolation", *INTERPOLATIONS)
        plain = type(self.like_pillow) is bool
        check(plain, "like_pillow must be true or false", like_pillow=self.like_pillow)
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

    def decode(self, content: tf.Tensor, channels: int) -> tf.Tensor:
        """Decodes the bytes of one file: uint8 `[h, w, channels]`.

        A PNG or JPEG file; where `channels` is 3, also a GIF (its first frame) or a BMP file.
        """

        def decode_any() -> tf.Tensor:
            return tf.io.decode_image(content, channels, expand_animations=False)

        def decode_jpeg() -> tf.Tensor:
            return tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE")

        if not self.like_pillow:
            return decode_any()
        image = tf.cond(tf.io.is_jpeg(content), decode_jpeg, decode_any)
        return tf.ensure_shape(image, [None, None, channels])

    def apply(self, images: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
        """Resizes images, and cuts out the middle.

        Args:
            images: Numbers from 0 to 255, `[h, w, C]` or `[B, h, w, C]`.
            image_size: The model's height and width.

        Returns:
            Float32 `[..., *image_size, C]`.
        """
        height, width = self.size or image_size
        if self.like_pillow:
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
