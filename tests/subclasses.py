"""What a user replaces in a few lines: attention scores, projections, the feed-forward network."""

import keras
import numpy as np
from keras import ops

from ktransformer.layers import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
)
from ktransformer.models import Transformer

register = keras.saving.register_keras_serializable(package="tests")


@register
class RelativeSelfAttention(MultiHeadSelfAttention):
    """Adds a learned bias for each head and each distance up to 4 (farther ones share it)."""

    def build(self, input_shape):
        super().build(input_shape)
        self.distance_bias = self.add_weight(shape=(9, self.num_heads), initializer="normal")

    def compute_scores(self, query, key, positions):
        scores = super().compute_scores(query, key, positions)
        distances = positions.keys[None, :] - positions.queries[:, None]  # [T, S]
        distances = ops.clip(distances, -4, 4) + 4  # In [0, 8].
        bias = ops.transpose(ops.take(self.distance_bias, distances, axis=0), (2, 0, 1))
        return scores + ops.cast(bias, scores.dtype)  # [H, T, S] broadcasts to [B, H, T, S]


class RelativeParts:
    def make_self_attention(self):
        return RelativeSelfAttention(self.num_heads, causal=self.causal, dtype=self.dtype_policy)


@register
class RelativeEncoderBlock(RelativeParts, EncoderBlock):
    pass


@register
class RelativeDecoderBlock(RelativeParts, DecoderBlock):
    pass


@register
class RelativeTransformer(Transformer):
    def make_encoder_block(self):
        return RelativeEncoderBlock(**self.block_arguments())

    def make_decoder_block(self):
        return RelativeDecoderBlock(**self.block_arguments())


@register
class SwiGLU(FeedForward):
    """Gates the inner layer: `silu(x W_gate) * (x W_hidden)` (Shazeer 2020)."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gate_projection = self.make_dense(self.hidden_dim, input_shape[-1], "gate")

    def compute_hidden(self, inputs):
        return ops.silu(self.gate_projection(inputs)) * self.hidden_projection(inputs)


class SwiGLUParts:
    def make_feed_forward(self):
        return SwiGLU(self.hidden_dim, dropout=self.hidden_dropout, dtype=self.dtype_policy)


@register
class SwiGLUEncoderBlock(SwiGLUParts, EncoderBlock):
    pass


@register
class SwiGLUDecoderBlock(SwiGLUParts, DecoderBlock):
    pass


@register
class SwiGLUTransformer(Transformer):
    def make_encoder_block(self):
        return SwiGLUEncoderBlock(**self.block_arguments())

    def make_decoder_block(self):
        return SwiGLUDecoderBlock(**self.block_arguments())


class OneKeyHead:
    """Projects to a single head of keys and values, which all heads of queries share."""

    def make_projections(self, input_dim, memory_dim=None):
        self.queries = self.make_dense(self.d_model, input_dim, "queries")
        self.shared = self.make_dense(2 * self.head_dim, memory_dim or input_dim, "shared")
        self.output_projection = self.make_dense(self.d_model, self.d_model, "output_projection")

    def project_shared(self, memory):
        both = ops.repeat(ops.expand_dims(self.shared(memory), 1), self.num_heads, axis=1)
        return ops.split(both, 2, axis=-1)  # [B, H, S, D/H] each


@register
class OneKeySelfAttention(OneKeyHead, MultiHeadSelfAttention):
    """Shazeer 2019."""

    def project(self, inputs, positions):
        return (*self.project_heads(self.queries, inputs), *self.project_shared(inputs))


@register
class OneKeyCrossAttention(OneKeyHead, MultiHeadCrossAttention):
    def project_query(self, inputs):
        return self.project_heads(self.queries, inputs)[0]

    def project_key_value(self, memory):
        return self.project_shared(memory)


class OneKeyParts:
    def make_self_attention(self):
        return OneKeySelfAttention(self.num_heads, causal=self.causal, dtype=self.dtype_policy)

    def make_cross_attention(self):
        return OneKeyCrossAttention(self.num_heads, dtype=self.dtype_policy)


@register
class OneKeyEncoderBlock(OneKeyParts, EncoderBlock):
    pass


@register
class OneKeyDecoderBlock(OneKeyParts, DecoderBlock):
    pass


@register
class OneKeyTransformer(Transformer):
    def make_encoder_block(self):
        return OneKeyEncoderBlock(**self.block_arguments())

    def make_decoder_block(self):
        return OneKeyDecoderBlock(**self.block_arguments())


def make_model(subclass, **overrides):
    """Makes a model of the subclass with random weights, those that start at 0 or 1 included."""
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary_size": 12, "num_layers": 2, "d_model": 16, "num_heads": 2}
    model = subclass(**{**sizes, "hidden_dim": 24, "dropout": 0.0, "max_length": 16, **overrides})
    model.build()
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(0.2 * generator.normal(size=weight.shape))
    return model


def make_batch(rows=8, length=6):
    """Makes sources, the same as labels, and what the decoder sees of them (1 starts)."""
    source = np.random.default_rng(1).integers(3, 12, (rows, length)).astype("int32")
    source[0, -2:] = 0
    target = np.concatenate([np.ones((rows, 1), "int32"), source[:, :-1]], axis=1)
    return {"source": source, "target": target}, source
