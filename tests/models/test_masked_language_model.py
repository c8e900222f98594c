"""The masked language model: its head, padding, vectors of texts, saving, learning, and JAX."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.layers import EncoderBlock, FeedForward
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.metrics import Perplexity, TokenAccuracy
from ktransformer.models import MaskedLanguageModel, Transformer
from tests.layers.layer_checks import POLICIES, TOLERANCE, array, randomize

SIZES = {
    "vocabulary_size": 13,
    "num_layers": 2,
    "d_model": 8,
    "num_heads": 2,
    "hidden_dim": 16,
    "dropout": 0.2,
    "max_length": 8,
}
IDS = np.array([[5, 11, 7, 3, 0, 0], [4, 9, 11, 6, 1, 3]], "int32")
POSITIONS = np.array([[1, 0], [2, 5]], "int32")
INPUTS = {"ids": IDS, "positions": POSITIONS}


def make_model(**overrides):
    """Makes a model with random weights, biases and norms included."""
    model = MaskedLanguageModel(**{**SIZES, **overrides})
    model.build()
    return randomize(model)


def at_positions(vectors, positions=POSITIONS):
    return array(vectors)[np.arange(len(positions))[:, None], positions]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("norm_first", [False, True], ids=["post_norm", "pre_norm"])
def test_the_logits_are_those_of_all_positions_at_the_chosen_ones(policy, norm_first):
    model = make_model(norm_first=norm_first, dtype=policy)
    logits = model(INPUTS)
    assert logits.shape == (2, 2, 13)
    assert keras.backend.standardize_dtype(logits.dtype) == model.compute_dtype
    everywhere = array(model.logits(model.encode(IDS)))
    assert everywhere.shape == (2, 6, 13)
    tolerance = TOLERANCE[policy] * max(1.0, np.abs(everywhere).max())
    np.testing.assert_allclose(array(logits), at_positions(everywhere), atol=tolerance)


def test_the_head_is_dense_activation_norm_the_tied_table_and_a_bias():
    model = make_model(activation="relu", epsilon=0.5)
    hidden = array(model.encode(IDS))
    kernel, bias = (array(weight) for weight in model.head_projection.weights)
    inner = np.maximum(hidden @ kernel + bias, 0)
    mean, variance = inner.mean(-1, keepdims=True), inner.var(-1, keepdims=True)
    scale, offset = (array(weight) for weight in model.head_norm.weights)
    normed = scale * (inner - mean) / np.sqrt(variance + 0.5) + offset
    expected = normed @ array(model.embedding.embeddings).T + array(model.head_bias)
    np.testing.assert_allclose(array(model.logits(hidden)), expected, atol=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_padding_changes_no_real_position_and_no_vector_of_a_text(policy):
    model = make_model(dtype=policy)
    short, padded = IDS[:1, :4], np.pad(IDS[:1, :4], ((0, 0), (0, 4)))
    hidden = array(model.encode(short))
    tolerance = TOLERANCE[policy] * max(1.0, np.abs(hidden).max())
    np.testing.assert_allclose(array(model.encode(padded))[:, :4], hidden, atol=tolerance)
    vectors = array(model.embed(short))
    np.testing.assert_allclose(array(model.embed(padded)), vectors, atol=tolerance)


def test_the_vector_of_a_text_is_the_mean_over_its_real_tokens():
    model = make_model()
    hidden = array(model.encode(IDS))
    expected = [hidden[0, :4].mean(axis=0), hidden[1].mean(axis=0)]
    np.testing.assert_allclose(array(model.embed(IDS)), expected, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_row_of_padding_has_a_vector_of_zeros_and_finite_logits(policy):
    model = make_model(dtype=policy)
    nothing = np.zeros((1, 4), "int32")
    np.testing.assert_array_equal(array(model.embed(nothing)), np.zeros((1, 8)))
    assert np.isfinite(array(model({"ids": nothing, "positions": nothing}))).all()


def test_a_token_sees_those_before_and_behind_it():
    model = make_model()
    before = array(model(INPUTS))
    for changed in (0, 5):
        ids = IDS.copy()
        ids[1, changed] = 12
        after = array(model({"ids": ids, "positions": POSITIONS}))
        assert np.abs(after[1, 0] - before[1, 0]).max() > 1e-3
        np.testing.assert_allclose(after[0], before[0], atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_the_encoder_and_the_embeddings_fit_a_transformer(positions):
    model = make_model(positions=positions)
    transformer = Transformer(**SIZES, activation="gelu", positions=positions)
    transformer.build()
    transformer.encoder.set_weights(model.encoder.get_weights())
    transformer.source_embedding.set_weights(model.embedding.get_weights())
    np.testing.assert_allclose(array(transformer.encode(IDS)), array(model.encode(IDS)), atol=1e-6)


def test_the_tiny_model_has_the_parameters_counted_by_hand():
    vocabulary_size, d_model, hidden_dim, max_length = 100, 128, 256, 64
    attention = 4 * (d_model * d_model + d_model)
    block = attention + 2 * d_model * hidden_dim + hidden_dim + d_model + 4 * d_model
    head = d_model * d_model + d_model + 2 * d_model + vocabulary_size
    expected = (vocabulary_size + max_length) * d_model + 4 * block + head
    model = MaskedLanguageModel.from_preset("tiny", vocabulary_size, max_length=max_length)
    model.build()
    assert model.count_params() == expected


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset .*\['base', 'big', 'tiny'\]"):
        MaskedLanguageModel.from_preset("small", 50)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vocabulary_size": 0}, r"vocabulary_size .*1.*vocabulary_size=0"),
        ({"num_layers": 0}, r"num_layers .*1.*num_layers=0"),
        ({"num_heads": 3}, r"d_model.*num_heads.*d_model=8.*num_heads=3"),
        ({"positions": "sideways"}, "positions"),
        ({"dropout": 1.0}, "dropout"),
    ],
    ids=str,
)
def test_an_impossible_size_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_model(**wrong)


@keras.saving.register_keras_serializable(package="tests")
class GatedFeedForward(FeedForward):
    def build(self, input_shape):
        super().build(input_shape)
        self.gate = self.make_dense(self.hidden_dim, input_shape[-1], "gate")

    def compute_hidden(self, inputs):
        return keras.ops.silu(self.gate(inputs)) * self.hidden_projection(inputs)


@keras.saving.register_keras_serializable(package="tests")
class GatedEncoderBlock(EncoderBlock):
    def make_feed_forward(self):
        return GatedFeedForward(self.hidden_dim, dtype=self.dtype_policy)


@keras.saving.register_keras_serializable(package="tests")
class GatedLanguageModel(MaskedLanguageModel):
    def make_encoder_block(self):
        return GatedEncoderBlock(**self.block_arguments())


@pytest.mark.parametrize("kind", [MaskedLanguageModel, GatedLanguageModel], ids=["own", "subclass"])
def test_a_saved_model_loads_with_the_same_config_and_logits(kind, tmp_path):
    options = {"norm_first": True, "positions": "sinusoidal", "pad_id": 2, "activation": "relu"}
    rest = {"scale_embeddings": False, "attention_dropout": 0.1, "hidden_dropout": 0.3}
    model = kind(**SIZES, **options, **rest, epsilon=1e-3, dtype="mixed_bfloat16")
    model.build()
    expected = array(randomize(model)(INPUTS))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is kind
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(array(loaded(INPUTS)), expected)


def cyclic_text(rows=320, seed=0):
    """Lines that count round a circle of eight ids from anywhere; one token is hidden (id 12)."""
    random = np.random.default_rng(seed)
    ids = (4 + (random.integers(8, size=(rows, 1)) + np.arange(7)) % 8).astype("int32")
    positions = random.integers(7, size=(rows, 1)).astype("int32")
    labels = np.take_along_axis(ids, positions, axis=1)
    np.put_along_axis(ids, positions, 12, axis=1)
    return {"ids": ids, "positions": positions}, labels


@pytest.mark.long
def test_fit_learns_what_stands_around_a_hidden_token():
    keras.utils.set_random_seed(1)
    model = MaskedLanguageModel(**{**SIZES, "d_model": 16, "dropout": 0.0})
    model.compile(
        keras.optimizers.Adam(0.01),
        SmoothedCrossEntropy(0.0),
        metrics=[TokenAccuracy(), Perplexity()],
    )
    inputs, labels = cyclic_text()
    model.fit(inputs, labels, epochs=30, verbose=0)
    _, accuracy, perplexity = model.evaluate(*cyclic_text(seed=1), verbose=0)
    assert accuracy == 1.0
    assert perplexity < 1.5


@pytest.mark.parametrize("kind", [MaskedLanguageModel, GatedLanguageModel], ids=["own", "subclass"])
@pytest.mark.parametrize("policy", POLICIES[1:])
def test_a_model_of_mixed_precision_gives_every_weight_a_gradient(policy, kind):
    model = kind(**SIZES, dtype=policy)
    model.build()
    randomize(model)
    with tf.GradientTape() as tape:
        loss = SmoothedCrossEntropy()(np.array([[5, 0], [9, 3]]), model(INPUTS, training=True))
    weights = [weight.value for weight in model.trainable_weights]
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert np.any(array(tf.convert_to_tensor(gradient))), weight.name


_ON_JAX = """
import json, sys
import keras, numpy as np
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.models import MaskedLanguageModel

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
folder, sizes = sys.argv[1], json.loads(sys.argv[2])
inputs = dict(np.load(f"{folder}/inputs.npz"))
model = MaskedLanguageModel(**sizes)
model.build()
model.load_weights(f"{folder}/model.weights.h5")
np.savez(f"{folder}/jax.npz", logits=model(inputs), vectors=model.embed(inputs["ids"]))

model.compile(optimizer=keras.optimizers.Adam(0.02), loss=SmoothedCrossEntropy(0.0))
history = model.fit(inputs, inputs["positions"] + 4, epochs=30, verbose=0)
print(json.dumps(history.history["loss"]))
"""


@pytest.mark.long
def test_jax_computes_the_same_logits_and_vectors_and_fits(tmp_path):
    model = make_model()
    model.save_weights(tmp_path / "model.weights.h5")
    np.savez(tmp_path / "inputs.npz", **INPUTS)
    losses = subprocess.run(
        [sys.executable, "-c", _ON_JAX, str(tmp_path), json.dumps(SIZES)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    with np.load(tmp_path / "jax.npz") as on_jax:
        np.testing.assert_allclose(on_jax["logits"], array(model(INPUTS)), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(on_jax["vectors"], array(model.embed(IDS)), atol=1e-5)
    losses = json.loads(losses.splitlines()[-1])
    assert losses[-1] < 0.5 * losses[0]
