"""A Transformer with a switch for each attention head, made by subclassing the layers."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers import (
    DecoderBlock,
    EncoderBlock,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
)
from ktransformer.models import Transformer
from training.claims.attention_maps import KINDS


class _Prunable:
    """Adds a switch for each head: weight `kept` `[H]`, 1 for on, 0 for off; not trained."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.kept = self.add_weight(
            shape=(self.num_heads,), initializer="ones", trainable=False, name="kept"
        )

    def merge(self, attended: Any) -> Any:
        """Merges the heads, with zeros for those that are off: `[B, H, T, D/H] -> [B, T, D]`."""
        return super().merge(attended * ops.reshape(self.kept, (1, -1, 1, 1)))


class PrunableSelfAttention(_Prunable, MultiHeadSelfAttention):
    """Self-attention with a switch for each head."""


class PrunableCrossAttention(_Prunable, MultiHeadCrossAttention):
    """Cross-attention with a switch for each head."""


class _PrunableParts:
    def make_self_attention(self) -> keras.layers.Layer:
        return PrunableSelfAttention(self.num_heads, causal=self.causal)


class PrunableEncoderBlock(_PrunableParts, EncoderBlock):
    """An encoder block with head switches."""


class PrunableDecoderBlock(_PrunableParts, DecoderBlock):
    """A decoder block with head switches."""

    def make_cross_attention(self) -> keras.layers.Layer:
        """Creates cross-attention with head switches."""
        return PrunableCrossAttention(self.num_heads)


class PrunableTransformer(Transformer):
    """A Transformer with head switches."""

    def make_encoder_block(self) -> keras.layers.Layer:
        """Creates an encoder block with head switches."""
        return PrunableEncoderBlock(**self.block_arguments())

    def make_decoder_block(self) -> keras.layers.Layer:
        """Creates a decoder block with head switches."""
        return PrunableDecoderBlock(**self.block_arguments())

    def attentions(self) -> dict[str, list[Any]]:
        """Returns the attention layers of each kind, first layer first."""
        decoder = self.decoder.blocks
        return {
            KINDS[0]: [block.self_attention for block in self.encoder.blocks],
            KINDS[1]: [block.self_attention for block in decoder],
            KINDS[2]: [block.cross_attention for block in decoder],
        }
