"""Patches of an image as vectors that know their place: where pixels become a sequence."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.checks import check_dropouts, check_sizes, to_size
from ktransformer.layers.output_shapes import DescribedLayer
from ktransformer.layers.projection import Projection
from ktransformer.layers.tensors import Images, Mask, Shape


def height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns an image's height and width; an int means a square.

    Raises:
        ValueError: `image_size` is neither an int nor two, or is below 1.
    """
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(
            f"image_size must be an int or (height, width); got image_size={image_size}."
        )
    height, width = (to_size("image_size", side) for side in sides)
    return height, width


@keras.saving.register_keras_serializable(package="ktransformer")
class PatchEmbedding(DescribedLayer):
    """Cuts images into square patches and turns each into a vector with a learned position.

    One linear map of a patch's pixels, equal to a convolution whose stride is its kernel's size.
    Patches come row by row, from the top left; a patch's pixels likewise, each with its channels.
    The same weights take images of any size that `patch_size` divides: the table of positions is
    interpolated, bilinearly, to their grid of patches.

    Args:
        d_model: D, the width of a vector.
        patch_size: Height and width of a patch, in pixels.
        image_size: Height and width of the images that the positions are made for, in pixels: an
            int or `(height, width)`; multiples of `patch_size`.
        channels: C of an image: 1 for grey, 3 for red, green and blue.
        class_token: Whether a learned vector that belongs to no patch comes first.
        distillation_token: Whether a second one follows it, as in a distilled DeiT.
        dropout: Probability of zeroing a feature of the sum, in [0, 1).
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, h, w, C]`, channels last; h and w known in advance.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, N, D]`, N = h * w / `patch_size`^2; `[B, N + 1, D]` with a class token,
        `[B, N + 2, D]` with a distillation token as well.

    Raises:
        ValueError: A size is below 1, `dropout` is not in [0, 1), `patch_size` does not divide
            the height and the width of `image_size` or of the images, these are not known in
            advance, the images have other channels, or there is a distillation token and no class
            token.

    Masking: none; every patch is real.

    Example:
        ```python
        embedding = PatchEmbedding(192, 16, image_size=224)
        vectors = embedding(keras.random.normal((2, 224, 224, 3)))  # (2, 197, 192)
        larger = embedding(keras.random.normal((2, 256, 320, 3)))  # (2, 321, 192)
        ```

    Reference: Dosovitskiy et al. 2021, section 3.1, equation 1, and section 3.2 (interpolation);
        Touvron et al. 2021, section 4 (distillation token). Initial values as in the first:
        positions normal with 0.02, class token 0.
    """

    def __init__(
        self,
        d_model: int,
        patch_size: int,
        *,
        image_size: int | tuple[int, int],
        channels: int = 3,
        class_token: bool = True,
        distillation_token: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(d_model=d_model, patch_size=patch_size, channels=channels)
        check_dropouts(dropout=dropout)
        if distillation_token and not class_token:
            raise ValueError(
                "distillation_token=True needs a class token before it; got class_token=False."
            )
        self.d_model = d_model
        self.patch_size = patch_size
        self.image_size = height_and_width(image_size)
        self.channels = channels
        self.class_token = class_token
        self.distillation_token = distillation_token
        self.num_tokens = int(class_token) + int(distillation_token)
        self.dropout = dropout
        self.grid_size = self.grid_of("image_size", *self.image_size)
        self.sum_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="sum_dropout"
        )
        self.supports_masking = True

    def grid_of(self, name: str, height: int, width: int) -> tuple[int, int]:
        """Returns the rows and columns of patches of an image; `name` is for the error."""
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"{name} must be a multiple of patch_size in height and width; "
                f"got {name}={(height, width)}, patch_size={self.patch_size}."
            )
        return height // self.patch_size, width // self.patch_size

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the size of the inputs."""
        self.projection = Projection(
            self.d_model,
            kernel_initializer="lecun_normal",
            dtype=self.dtype_policy,
            name="projection",
        )
        self.projection.build((None, self.patch_size**2 * self.channels))
        rows, columns = self.grid_size
        self.position_embeddings = self.add_weight(
            shape=(rows * columns + self.num_tokens, self.d_model),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="position_embeddings",
        )
        if self.class_token:
            self.class_embedding = self.add_weight(
                shape=(1, self.d_model), initializer="zeros", name="class_embedding"
            )
        if self.distillation_token:
            self.distillation_embedding = self.add_weight(
                shape=(1, self.d_model), initializer="zeros", name="distillation_embedding"
            )

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, N, D]`, N counting the class token and the distillation token, too."""
        rows, columns = self._grid_of_images(input_shape)
        return (input_shape[0], rows * columns + self.num_tokens, self.d_model)

    def compute_mask(self, inputs: Images, mask: Mask | None = None) -> None:
        """Starts no mask: every patch is real."""
        return None

    def flatten_patches(self, images: Images) -> Any:
        """Lays out the pixels of each patch, a row each: `[B, h, w, C] -> [B*N, P*P*C]`."""
        size, pixels = self.patch_size, self.patch_size * self.channels
        columns = images.shape[2] // size
        # Four axes, B and the rows of patches as one: six are slow or missing on some devices.
        strips = ops.reshape(images, (-1, size, columns, pixels))
        patches = ops.transpose(strips, (0, 2, 1, 3))  # [B*rows, columns, P, P*C]
        return ops.reshape(patches, (-1, size * pixels))

    def positions(self, rows: int, columns: int) -> Any:
        """Returns the patches' positions `[N, D]` for a grid, interpolated where it is another."""
        table = ops.cast(self.position_embeddings, self.compute_dtype)
        table = table[self.num_tokens :] if self.num_tokens else table
        if (rows, columns) == self.grid_size:
            return table
        grid = ops.reshape(table, (1, *self.grid_size, self.d_model))
        grid = ops.image.resize(
            grid, (rows, columns), interpolation="bilinear", data_format="channels_last"
        )
        return ops.cast(ops.reshape(grid, (-1, self.d_model)), self.compute_dtype)

    def call(self, inputs: Images, training: bool | None = None) -> Any:
        rows, columns = self._grid_of_images(inputs.shape)
        images = ops.cast(inputs, self.compute_dtype)
        vectors = self.projection(self.flatten_patches(images))
        vectors = ops.reshape(vectors, (-1, rows * columns, self.d_model))
        added = self.positions(rows, columns)
        if self.num_tokens:
            # Zeros in front and one sum: no copies of the class token, whatever B is.
            vectors = ops.pad(vectors, ((0, 0), (self.num_tokens, 0), (0, 0)))
            tokens = self.class_embedding
            if self.distillation_token:
                tokens = ops.concatenate([tokens, self.distillation_embedding], axis=0)
            first = ops.cast(tokens + self.position_embeddings[: self.num_tokens], added.dtype)
            added = ops.concatenate([first, added], axis=0)
        return self.sum_dropout(vectors + added, training=training)

    def _grid_of_images(self, shape: Any) -> tuple[int, int]:
        if len(shape) != 4 or shape[-1] != self.channels:
            raise ValueError(
                "The images must have the shape [B, height, width, channels]; "
                f"got {tuple(shape)}, channels={self.channels}."
            )
        if shape[1] is None or shape[2] is None:
            raise ValueError(
                f"The images' height and width must be known in advance; got {tuple(shape)}."
            )
        return self.grid_of("images", shape[1], shape[2])

    def get_config(self) -> dict[str, Any]:
        names = ("d_model", "patch_size", "image_size", "channels", "class_token", "dropout")
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        return {**config, "distillation_token": self.distillation_token}
