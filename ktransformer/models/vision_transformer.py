"""The vision Transformer: an image's class from its patches."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers import PatchEmbedding
from ktransformer.layers.checks import check_choice, check_inputs, to_size
from ktransformer.layers.patch_embedding import height_and_width
from ktransformer.layers.projection import Projection
from ktransformer.layers.tensors import Images, Shape, Vectors
from ktransformer.models.block_model import EncoderModel

VISION_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"num_layers": 12, "d_model": 192, "hidden_dim": 768, "num_heads": 3},
    "small": {"num_layers": 12, "d_model": 384, "hidden_dim": 1536, "num_heads": 6},
    "base": {"num_layers": 12, "d_model": 768, "hidden_dim": 3072, "num_heads": 12},
}
POOLINGS = ("class_token", "mean", "both_tokens")


@keras.saving.register_keras_serializable(package="ktransformer")
class VisionTransformer(EncoderModel):
    """Classifies images with the Transformer's encoder.

    Override `make_patch_embedding`, `make_encoder_block`, `make_final_norm` or `make_head` to
    build it from other parts.

    Args:
        num_classes: Number of classes.
        image_size: Height and width of the images that the positions are made for, in pixels: an
            int or `(height, width)`; multiples of `patch_size`.
        patch_size: Height and width of a patch, in pixels.
        channels: C of an image: 1 for grey, 3 for red, green and blue.
        num_layers: Blocks of the encoder.
        d_model: D, the width.
        pooling: What the head sees: `"class_token"`, the encoder's output at an extra first
            position, `"mean"`, the mean over the patches, without such a position, or
            `"both_tokens"`, the outputs at the class token and at the distillation token, joined.
        distillation_token: Whether there is a distillation token after the class token.
        **options: Fields of `BlockConfig`, by default 12 heads, a `hidden_dim` of 3072, GELU,
            `norm_first` and an `epsilon` of 1e-6; `remat` of `BlockModel`; arguments of
            `keras.Model`.

    Call arguments:
        inputs: Float tensor `[B, h, w, C]`, pixels scaled to [-1, 1] by the caller
            (`pixels / 127.5 - 1`). Height and width may be others than `image_size`, if
            `patch_size` divides them: the positions are interpolated.
        training: Whether dropout is on.

    Returns:
        Logits `[B, num_classes]`.

    Raises:
        ValueError: See `BlockModel`; or `patch_size` does not divide a height or a width, or
            `pooling` is unknown or needs another token.
        TypeError: An argument is unknown.

    Masking: none; every patch is real.

    Example:
        ```python
        model = VisionTransformer.from_preset("tiny", num_classes=10, image_size=32, patch_size=4)
        logits = model(images / 127.5 - 1)  # (B, 10)
        ```

    Reference: Dosovitskiy et al. 2021 (sizes of `base`); Touvron et al. 2021 (`tiny`, `small`, the
        distillation token). As there, the blocks are pre-norm and the head's weights start at 0.
    """

    presets = VISION_PRESETS
    input_axes = "[B, h, w, C]"
    block_defaults: ClassVar[dict[str, Any]] = {
        "num_heads": 12,
        "hidden_dim": 3072,
        "activation": "gelu",
        "norm_first": True,
        "epsilon": 1e-6,
    }

    def __init__(
        self,
        num_classes: int,
        *,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        channels: int = 3,
        num_layers: int = 12,
        d_model: int = 768,
        pooling: str = "class_token",
        distillation_token: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(num_layers=num_layers, d_model=d_model, **options)
        check_choice("pooling", pooling, POOLINGS)
        self.num_classes = to_size("num_classes", num_classes)
        self.image_size = height_and_width(image_size)
        self.patch_size = to_size("patch_size", patch_size)
        self.channels = to_size("channels", channels)
        self.pooling = pooling
        self.distillation_token = distillation_token
        if pooling == "both_tokens" and not distillation_token:
            raise ValueError(
                "pooling='both_tokens' needs a distillation token; got distillation_token=False."
            )
        self._make_layers()

    def _make_layers(self) -> None:
        self.patch_embedding = self.make_patch_embedding()
        self.encoder = self.make_encoder()
        self.head = self.make_head()

    def make_patch_embedding(self) -> keras.layers.Layer:
        """Creates the embedding of the patches; override it for another one."""
        return PatchEmbedding(
            self.d_model,
            self.patch_size,
            image_size=self.image_size,
            channels=self.channels,
            class_token=self.pooling != "mean",
            distillation_token=self.distillation_token,
            dropout=self.dropout,
            dtype=self.dtype_policy,
            name="patch_embedding",
        )

    def make_head(self) -> keras.layers.Layer:
        """Creates the layer from `features` to logits; override it for another one."""
        return Projection(
            self.num_classes, kernel_initializer="zeros", dtype=self.dtype_policy, name="head"
        )

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        height, width = self.image_size
        self.patch_embedding.build((None, height, width, self.channels))
        self.encoder.build((None, None, self.d_model))
        width = 2 * self.d_model if self.pooling == "both_tokens" else self.d_model
        self.head.build((None, width))
        self.built = True

    def encode(self, images: Images, training: bool | None = None) -> Vectors:
        """Encodes images `[B, h, w, C]`: `[B, N, D]`, first the tokens that are no patches."""
        if not self.built:  # Else a model that is only used through this is saved unbuilt.
            self.build()
        return self.encoder(self.patch_embedding(images, training=training), training=training)

    def features(self, images: Images, training: bool | None = None) -> Any:
        """Returns one vector an image, what the head sees: `[B, h, w, C] -> [B, D]`.

        With `both_tokens` it is `[B, 2D]`.
        """
        return self.pool(self.encode(images, training=training))

    def pool(self, encoded: Vectors) -> Any:
        """Makes one vector of an image's many: `[B, N, D] -> [B, D]`, or `[B, 2D]`."""
        if self.pooling == "both_tokens":
            return ops.reshape(encoded[:, :2], (-1, 2 * self.d_model))
        if self.pooling == "class_token":
            return encoded[:, 0]
        return ops.mean(encoded, axis=1)

    def export_signature(self) -> list[Any]:
        shape = (None, *self.image_size, self.channels)
        return [keras.InputSpec(shape=shape, dtype="float32", name="images")]

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, num_classes]`."""
        return (input_shape[0], self.num_classes)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        check_inputs(inputs, self.input_axes)
        return self.head(self.features(inputs, training=training))

    def attention_weights(self, images: Images) -> list[Any]:
        """Returns each block's attention weights `[B, H, T, T]`, first block first.

        T is N, the tokens that are no patches included, which come first; a row is what one
        position looks at.
        """
        return self.encoder.attention_weights(self.patch_embedding(images, training=False))

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "image_size", "patch_size", "channels", "pooling")
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        return {**config, "distillation_token": self.distillation_token}
