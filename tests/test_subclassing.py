"""What a user replaces in a few lines: attention scores, projections, the feed-forward network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ktransformer.engines import ModelEngine, SavedModelEngine
from ktransformer.exporting import export_saved_model
from ktransformer.layers import Positions
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from tests.models.small_transformer import decode_in_steps
from tests.subclasses import (
    OneKeyTransformer,
    RelativeSelfAttention,
    RelativeTransformer,
    SwiGLU,
    SwiGLUTransformer,
    make_batch,
    make_model,
)

SUBCLASSES = pytest.mark.parametrize(
    "subclass", [RelativeTransformer, SwiGLUTransformer, OneKeyTransformer]
)


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
    names = ["serving_default", "beam"]
    export = SavedModelEngine(export_saved_model(translator, tmp_path / "model", signatures=names))
    (got,) = export.translate_n_best(["one two"], n_best=4)
    assert got.texts == expected.texts
    assert got.scores == pytest.approx(expected.scores, abs=1e-4)
