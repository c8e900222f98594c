"""A Transformer without one of its attentions, made by subclassing the layers."""

from typing import Any

import keras

from ktransformer.layers import (
    DecoderBlock,
    EncoderBlock,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
)
from ktransformer.models import Transformer
from training.claims.attention_maps import KINDS

NOTHING = "nothing"
REMOVED = (NOTHING, *KINDS)


class _Removed:
    """An attention with an output of zero: only the residual connection remains."""

    def merge(self, attended: Any) -> Any:
        return 0.0 * super().merge(attended)


class RemovedSelfAttention(_Removed, MultiHeadSelfAttention):
    """Self-attention with an output of zero."""


class RemovedCrossAttention(_Removed, MultiHeadCrossAttention):
    """Cross-attention with an output of zero."""


class EncoderBlockWithoutAttention(EncoderBlock):
    """An encoder block without self-attention: positions do not mix."""

    def make_self_attention(self) -> keras.layers.Layer:
        """Creates self-attention with an output of zero."""
        return RemovedSelfAttention(self.num_heads, causal=self.causal)


class DecoderBlockWithoutSelfAttention(DecoderBlock):
    """A decoder block without self-attention: it sees only the newest target token."""

    def make_self_attention(self) -> keras.layers.Layer:
        """Creates self-attention with an output of zero."""
        return RemovedSelfAttention(self.num_heads, causal=self.causal)


class DecoderBlockWithoutCrossAttention(DecoderBlock):
    """A decoder block without cross-attention: it does not see the source."""

    def make_cross_attention(self) -> keras.layers.Layer:
        """Creates cross-attention with an output of zero."""
        return RemovedCrossAttention(self.num_heads)


class ReducedTransformer(Transformer):
    """A Transformer without one of its attentions.

    Args:
        vocabulary_size: V, the number of ids.
        removed: One of `REMOVED`.
        **arguments: Arguments of `Transformer`.
    """

    def __init__(self, vocabulary_size: int, removed: str, **arguments: Any) -> None:
        self._encoder_block = EncoderBlockWithoutAttention if removed == KINDS[0] else EncoderBlock
        self._decoder_block = {
            KINDS[1]: DecoderBlockWithoutSelfAttention,
            KINDS[2]: DecoderBlockWithoutCrossAttention,
        }.get(removed, DecoderBlock)
        super().__init__(vocabulary_size, **arguments)

    def make_encoder_block(self) -> keras.layers.Layer:
        """Creates an encoder block."""
        return self._encoder_block(**self.block_arguments())

    def make_decoder_block(self) -> keras.layers.Layer:
        """Creates a decoder block."""
        return self._decoder_block(**self.block_arguments())
