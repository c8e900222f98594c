"""A small language model of the library's public layers, for the experiments on text."""

from collections.abc import Callable
from typing import Any

import keras

from ktransformer.layers import EncoderBlock, PositionalEmbedding
from ktransformer.models import Encoder


class CausalBlock(EncoderBlock):
    """A block that sees only what is before: the decoder's, without the encoder."""

    causal = True


class LanguageModel(keras.Model):
    """Predicts a token at every position.

    With causal blocks it predicts the next token (autoregressive); with others, the token that
    stands there or was masked out (autoencoding).

    Args:
        vocabulary_size: V, the number of ids.
        num_layers: Number of blocks.
        make_block: Makes one block `[B, T, D] -> [B, T, D]`.
        d_model: D, the width.
        max_length: The longest sequence, in tokens.
        final_norm: A layer after the last block, or None. Pre-norm blocks need one.
        embedding: The embedding, tied to the output, which then says width and length; None for
            the library's own.

    Call arguments:
        inputs: Int tensor `[B, T]`.
        training: Whether dropout is on.

    Returns:
        Logits `[B, T, V]`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        make_block: Callable[[], keras.layers.Layer],
        *,
        d_model: int = 64,
        max_length: int = 64,
        final_norm: keras.layers.Layer | None = None,
        embedding: PositionalEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding or PositionalEmbedding(
            vocabulary_size, d_model, max_length=max_length
        )
        blocks = [make_block() for _ in range(num_layers)]
        self.encoder = Encoder(blocks, final_norm=final_norm)

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights."""
        self.embedding.build((None, None))
        self.encoder.build((None, None, self.embedding.d_model))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        hidden = self.embedding(inputs, training=training)
        mask = self.embedding.compute_mask(inputs)
        return self.embedding.logits(self.encoder(hidden, mask=mask, training=training))
