"""Transformers that lack one of the two masks, made by subclassing the layers."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers import DecoderBlock, PositionalEmbedding
from ktransformer.models import Transformer

BOTH, UNPADDED, LEAKING = "both masks", "no padding mask", "no causal mask"


class EmbeddingWithoutMask(PositionalEmbedding):
    """An embedding that calls padding real."""

    def compute_mask(self, inputs: Any, mask: Any | None = None) -> Any:
        """Marks every token as real: `[B, T]`."""
        return ops.ones_like(inputs, dtype="bool")


class TransformerWithoutPaddingMask(Transformer):
    """A Transformer that looks at padding as at any token."""

    def make_embedding(self, name: str) -> PositionalEmbedding:
        """Creates an embedding that starts no padding mask."""
        return EmbeddingWithoutMask.from_config(super().make_embedding(name).get_config())


class NonCausalBlock(DecoderBlock):
    """A decoder block whose self-attention sees later tokens as well."""

    causal = False


class TransformerWithoutCausalMask(Transformer):
    """A Transformer that, in training, is shown what it is to predict."""

    def make_decoder_block(self) -> keras.layers.Layer:
        """Creates a decoder block that looks ahead."""
        return NonCausalBlock(**self.block_arguments())


VARIANTS = {
    BOTH: Transformer,
    UNPADDED: TransformerWithoutPaddingMask,
    LEAKING: TransformerWithoutCausalMask,
}
