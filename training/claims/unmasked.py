"""Transformers without one of the two masks, made by subclassing the layers."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers import DecoderBlock, PositionalEmbedding
from ktransformer.models import Transformer

BOTH, UNPADDED, LEAKING = "both masks", "no padding mask", "no causal mask"


class EmbeddingWithoutMask(PositionalEmbedding):
    """An embedding without a padding mask."""

    def compute_mask(self, inputs: Any, mask: Any | None = None) -> Any:
        """Marks every token as real, padding too: `[B, T]`, all True."""
        return ops.ones_like(inputs, dtype="bool")


class TransformerWithoutPaddingMask(Transformer):
    """A Transformer that attends to padding."""

    def make_embedding(self, name: str) -> PositionalEmbedding:
        """Creates an embedding without a padding mask."""
        return EmbeddingWithoutMask.from_config(super().make_embedding(name).get_config())


class NonCausalBlock(DecoderBlock):
    """A decoder block without the causal mask: its self-attention sees later tokens."""

    causal = False


class TransformerWithoutCausalMask(Transformer):
    """A Transformer that sees, in training, the tokens that it must predict."""

    def make_decoder_block(self) -> keras.layers.Layer:
        """Creates a decoder block without the causal mask."""
        return NonCausalBlock(**self.block_arguments())


VARIANTS = {
    BOTH: Transformer,
    UNPADDED: TransformerWithoutPaddingMask,
    LEAKING: TransformerWithoutCausalMask,
}
