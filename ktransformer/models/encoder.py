"""The encoder: a stack of blocks over vectors, whatever made them."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="ktransformer")
class Encoder(keras.layers.Layer):
    """Passes vectors through a stack of blocks.

    The blocks need not be alike, nor `EncoderBlock`s: any layer `[B, S, D] -> [B, S, D]` that
    takes a `mask` will do.

    Args:
        blocks: The layers, first to last; at least one.
        final_norm: A layer that norms the last block's output, or None. Pre-norm blocks need
            one: nothing else bounds the sum of their residuals.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, S, D]`, embedded tokens or image patches.
        mask: Boolean tensor `[B, S]`, True at real positions; filled in by Keras.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, S, D]`, the memory.

    Raises:
        ValueError: `blocks` is empty.

    Masking: handed to every block and passed on unchanged.

    Example:
        ```python
        encoder = Encoder([EncoderBlock(4, 256, dropout=0.1) for _ in range(4)])
        memory = encoder(PositionalEmbedding(8000, 64, max_length=256)(ids))
        ```

    Reference: Vaswani et al. 2017, section 3.1.
    """

    def __init__(
        self,
        blocks: list[keras.layers.Layer],
        *,
        final_norm: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not blocks:
            raise ValueError("blocks must hold at least one layer; got none.")
        self.blocks = list(blocks)
        self.final_norm = final_norm
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Builds the blocks for inputs `[B, S, D]`."""
        for block in self.blocks:
            block.build(input_shape)
        if self.final_norm is not None:
            self.final_norm.build(input_shape)

    def call(self, inputs: Any, mask: Any | None = None, training: bool | None = None) -> Any:
        hidden = inputs
        for block in self.blocks:
            hidden = block(hidden, mask=mask, training=training)
        return hidden if self.final_norm is None else self.final_norm(hidden)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "blocks": [keras.saving.serialize_keras_object(block) for block in self.blocks],
            "final_norm": keras.saving.serialize_keras_object(self.final_norm),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Encoder":
        """Creates the layer that `get_config` described."""
        deserialize = keras.saving.deserialize_keras_object
        blocks = [deserialize(block) for block in config.pop("blocks")]
        return cls(blocks, final_norm=deserialize(config.pop("final_norm")), **config)
