"""What a user replaces in a few lines: attention scores, projections, the feed-forward network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ktransformer.engines import ModelEngine, SavedModelEngine
from ktransformer.exporting import export_saved_model
from ktransformer.layers import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
    Positions,
)
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer

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


SUBCLASSES = pytest.mark.parametrize(
    "subclass", [RelativeTransformer, SwiGLUTransformer, OneKeyTransformer]
)


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


def decode_in_steps(model, inputs):
    """Feeds the target token by token through the cache: logits `[B, T, V]`."""
    rows, length = inputs["target"].shape
    memory, cache = model.prepare_memory(inputs["source"]), model.empty_state(rows, length)
    logits = []
    for index in range(length):
        step, cache = model.step(inputs["target"][:, index], index, cache, memory)
        logits.append(step)
    return ops.convert_to_numpy(ops.stack(logits, axis=1))


@pytest.mark.parametrize(
    "subclass",
    [
        pytest.param(RelativeTransformer, marks=pytest.mark.long),
        pytest.param(SwiGLUTransformer, marks=pytest.mark.long),
        OneKeyTransformer,
    ],
)
def test_a_subclass_trains(subclass):
    model, (inputs, labels) = make_model(subclass, num_layers=1), make_batch()
    optimizer = keras.optimizers.Adam(5e-3)
    model.compile(optimizer=optimizer, loss=SmoothedCrossEntropy(0.1), run_eagerly=True)
    losses = model.fit(inputs, labels, batch_size=8, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


@SUBCLASSES
def test_a_subclass_decodes_with_the_cache_as_in_a_full_call(subclass):
    model, (inputs, _) = make_model(subclass), make_batch()
    inputs = {name: ids[1:] for name, ids in inputs.items()}  # Row 0 has padding in its target.
    full = ops.convert_to_numpy(model(inputs))
    steps = decode_in_steps(model, inputs)
    np.testing.assert_allclose(steps, full, atol=1e-4)
    np.testing.assert_array_equal(steps.argmax(-1), full.argmax(-1))


@SUBCLASSES
def test_a_subclass_survives_saving_and_loading(subclass, tmp_path):
    model, (inputs, _) = make_model(subclass), make_batch()
    expected = ops.convert_to_numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is subclass
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(inputs)), expected)


def test_the_distance_bias_is_added_to_the_scores():
    attention = RelativeSelfAttention(1)
    attention.build((None, None, 2))
    attention.distance_bias.assign(np.arange(9.0)[:, None])  # Distance d from -4 to 4: d + 4.
    query = key = np.zeros((1, 1, 3, 2), "float32")
    positions = Positions(np.arange(3), np.arange(3))
    scores = ops.convert_to_numpy(attention.compute_scores(query, key, positions))
    np.testing.assert_allclose(scores[0, 0], [[4, 5, 6], [3, 4, 5], [2, 3, 4]])
    later = Positions(np.array([2]), np.arange(3))
    later = ops.convert_to_numpy(attention.compute_scores(query[:, :, :1], key, later))
    np.testing.assert_allclose(later[0, 0], [[2, 3, 4]])


def test_the_gate_multiplies_the_inner_layer():
    layer = SwiGLU(1)
    layer.build((None, None, 1))
    layer.hidden_projection.kernel.assign([[3.0]])
    layer.gate_projection.kernel.assign([[1.0]])
    hidden = ops.convert_to_numpy(layer.compute_hidden(np.array([[2.0], [-1.0]], "float32")))
    # silu(2) * 6 and silu(-1) * -3, with silu(x) = x / (1 + exp(-x)).
    np.testing.assert_allclose(hidden, [[10.569565], [0.806824]], rtol=1e-5)


@SUBCLASSES
def test_the_parts_of_a_subclass_hold_the_new_weights(subclass):
    added = {
        RelativeTransformer: 4 * 9 * 2,  # 2 + 2 blocks.
        SwiGLUTransformer: 4 * (16 * 24 + 24),
        OneKeyTransformer: -6 * (16 * 16 + 16),  # 4 + 2 attentions: of 2 heads, 1 is left.
    }
    plain = make_model(Transformer).count_params()
    assert make_model(subclass).count_params() == plain + added[subclass]


@SUBCLASSES
def test_every_weight_of_a_subclass_has_a_gradient(subclass):
    model, (inputs, labels) = make_model(subclass, num_layers=1), make_batch()
    with tf.GradientTape() as tape:
        loss = SmoothedCrossEntropy(0.1)(labels, model(inputs))
    weights = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert ops.any(ops.convert_to_tensor(gradient) != 0), weight.path


@pytest.mark.long
def test_other_projections_without_positions_export(tmp_path):
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    sizes = {"vocabulary_size": tokenizer.vocabulary_size, "num_layers": 1, "max_length": 8}
    translator = Translator(make_model(OneKeyTransformer, positions="none", **sizes), tokenizer)
    (expected,) = ModelEngine(translator).translate_n_best(["one two"], n_best=4)
    export = SavedModelEngine(export_saved_model(translator, tmp_path / "model"))
    (got,) = export.translate_n_best(["one two"], n_best=4)
    assert got.texts == expected.texts
    assert got.scores == pytest.approx(expected.scores, abs=1e-4)
