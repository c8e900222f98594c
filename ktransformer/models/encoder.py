"""The encoder: a stack of blocks over embedded tokens or image patches."""

from typing import Any

import keras

from ktransformer.layers.overrides import check_attention_weights
from ktransformer.layers.tensors import Mask, Shape, Vectors
from ktransformer.models.block_stack import BlockStack


@keras.saving.register_keras_serializable(package="ktransformer")
class Encoder(BlockStack):
    """Passes vectors through a stack of blocks.

    The blocks need not be alike, nor `EncoderBlock`s: any layer `[B, S, D] -> [B, S, D]` that
    takes a `mask` will do.

    Args:
        blocks: The layers, first to last; at least one.
        final_norm: A layer that norms the last block's output, or None. Pre-norm blocks need
            one: nothing else bounds the sum of their residuals.
        remat: See `BlockStack`.
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

    def build(self, input_shape: Shape) -> None:
        """Builds the blocks for inputs `[B, S, D]`."""
        self.build_blocks(input_shape)

    def call(
        self, inputs: Vectors, mask: Mask | None = None, training: bool | None = None
    ) -> Vectors:
        hidden = inputs
        for block in self.blocks:
            hidden = self.call_block(block, hidden, mask=mask, training=training)
        return self.finish(hidden)

    def attention_weights(self, inputs: Vectors, mask: Mask | None = None) -> list[Any]:
        """Returns each block's attention weights `[B, H, S, S]`, first block first.

        Takes what `call` takes; the blocks must be `EncoderBlock`s or have the same method.

        Raises:
            NotImplementedError: A subclass, here or among the blocks, overrides `call` and not the
                method that returns its weights.
        """
        check_attention_weights(self, "attention_weights")
        hidden, weights = inputs, []
        for block in self.blocks:
            weights.append(block.attention_weights(hidden, mask=mask))
            hidden = self.call_block(block, hidden, mask=mask, training=False)
        return weights
