"""Token vectors, positions, the mask, and the tied output projection."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.layers import PositionalEmbedding, sinusoidal_positions
from ktransformer.models import MaskedLanguageModel
from tests.layers.layer_checks import TOLERANCE, array, built, check_layer, normal

IDS = np.array([[5, 9, 3, 0], [2, 5, 0, 0]], "int32")
POSITIONS = pytest.mark.parametrize(
    "positions", ["sinusoidal", "sinusoidal_interleaved", "learned", "rotary", "none"]
)

# Positions 0 to 2 of width 4: the frequencies are 1 and 1/100.
SINES = {0: (0.0, 0.0), 1: (0.8414710, 0.0099998), 2: (0.9092974, 0.0199987)}
COSINES = {0: (1.0, 1.0), 1: (0.5403023, 0.9999500), 2: (-0.4161468, 0.9998000)}
SINES_FIRST = [[*SINES[p], *COSINES[p]] for p in range(3)]
INTERLEAVED = [[SINES[p][0], COSINES[p][0], SINES[p][1], COSINES[p][1]] for p in range(3)]


def make(positions="sinusoidal", **overrides):
    arguments = {"max_length": 8, "positions": positions, **overrides}
    return built(PositionalEmbedding(10, 4, **arguments))


@POSITIONS
def test_it_is_a_layer_like_any_other(positions, tmp_path):
    check_layer(
        lambda dtype: PositionalEmbedding(
            10,
            4,
            max_length=4,
            positions=positions,
            scale=False,
            pad_id=2,
            dropout=0.3,
            dtype=dtype,
        ),
        [np.arange(8, dtype="int32").reshape(2, 4)],
        (2, 4, 4),
        tmp_path,
    )


def test_sinusoids_have_all_sines_before_the_cosines():
    np.testing.assert_allclose(sinusoidal_positions(3, 4), SINES_FIRST, atol=1e-6)


def test_interleaved_sinusoids_have_each_sine_beside_its_cosine():
    np.testing.assert_allclose(sinusoidal_positions(3, 4, interleaved=True), INTERLEAVED, atol=1e-6)


def test_sinusoids_of_an_odd_width_are_refused():
    with pytest.raises(ValueError, match="d_model=3"):
        sinusoidal_positions(4, 3)


@pytest.mark.parametrize(("scale", "factor"), [(True, 2.0), (False, 1.0)])  # sqrt(4) is 2.
@pytest.mark.parametrize(
    ("positions", "table"), [("sinusoidal", SINES_FIRST), ("sinusoidal_interleaved", INTERLEAVED)]
)
def test_a_vector_is_the_scaled_token_plus_its_position(positions, table, scale, factor):
    layer = make(positions, scale=scale)
    tokens = layer.embeddings.numpy()[[7, 1, 7]]
    np.testing.assert_allclose(
        array(layer(np.array([[7, 1, 7]])))[0], factor * tokens + table, atol=1e-5
    )


@pytest.mark.parametrize(("scale", "factor"), [(True, 2.0), (False, 1.0)])
def test_learned_positions_come_from_their_own_table(scale, factor):
    layer = make("learned", scale=scale)
    expected = factor * layer.embeddings.numpy()[[7, 1]] + layer.position_embeddings.numpy()[:2]
    np.testing.assert_allclose(array(layer(np.array([[7, 1]])))[0], expected, atol=1e-5)


def test_without_positions_a_vector_is_the_scaled_token_and_the_width_may_be_odd():
    layer = built(PositionalEmbedding(10, 3, max_length=8, positions="none"))
    (table,) = layer.weights
    np.testing.assert_allclose(array(layer(IDS)), 3**0.5 * table.numpy()[IDS], rtol=1e-5)


@POSITIONS
@pytest.mark.parametrize("policy", TOLERANCE)
def test_later_ids_are_embedded_at_the_start_index(positions, policy):
    layer = make(positions, dtype=policy)
    embed = tf.function(layer.embed)
    parts = [array(embed(IDS[:, :2])), array(embed(IDS[:, 2:], tf.constant(2)))]
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), array(layer(IDS)), atol=TOLERANCE[policy]
    )


@pytest.mark.parametrize("policy", TOLERANCE)
def test_logits_are_the_vectors_times_the_table(policy):
    layer = make(dtype=policy)
    hidden = array(layer(IDS))
    logits = layer.logits(layer(IDS))
    assert keras.backend.standardize_dtype(logits.dtype) == layer.compute_dtype
    expected = hidden @ layer.embeddings.numpy().T  # Up to about 5.
    np.testing.assert_allclose(array(logits), expected, atol=5 * TOLERANCE[policy])


HALVES = pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])


@HALVES
def test_float_ids_are_not_rounded_to_half_precision(policy):
    layer = built(PositionalEmbedding(5000, 4, max_length=8, dtype=policy))
    ids = np.array([[257, 2049, 4097]])
    symbol = keras.Input((None,))  # Floats, by Keras' default.
    model = keras.Model(symbol, layer(symbol))
    np.testing.assert_array_equal(array(model(ids)), array(layer(ids)))


@HALVES
def test_vectors_in_reverse_are_projected_in_half_precision(policy):
    layer, vectors = make(dtype=policy), normal(2, 3, 4)
    logits = layer(vectors, reverse=True)
    assert keras.backend.standardize_dtype(logits.dtype) == layer.compute_dtype
    expected = layer.logits(keras.ops.cast(vectors, layer.compute_dtype))
    np.testing.assert_array_equal(array(logits), array(expected))


def test_the_mask_marks_all_but_padding():
    np.testing.assert_array_equal(
        make().compute_mask(IDS), [[True, True, True, False], [True, True, False, False]]
    )
    np.testing.assert_array_equal(
        make(pad_id=5).compute_mask(IDS), [[False, True, True, True], [True, False, True, True]]
    )


def test_the_vectors_carry_the_mask():
    np.testing.assert_array_equal(make()(IDS)._keras_mask, IDS != 0)


def test_dropout_zeroes_features_in_training_only():
    layer = make(dropout=0.5)
    plain = array(layer(IDS))
    dropped = array(layer(IDS, training=True))
    kept = dropped != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-6)
    np.testing.assert_array_equal(array(layer.embed(IDS)), plain)


@pytest.mark.parametrize("shape", [(None, None), (2, 5)])
def test_the_symbolic_output_has_the_shape_and_dtype_of_the_real_one(shape):
    layer = PositionalEmbedding(10, 4, max_length=8, dtype="mixed_float16")
    outputs = layer(keras.Input(batch_shape=shape, dtype="int32"))
    assert outputs.shape == (*shape, 4)
    assert outputs.dtype == "float16"


@pytest.mark.parametrize("project", [lambda e, h: e.logits(h), lambda e, h: e(h, reverse=True)])
def test_a_functional_model_trains_one_table_for_embedding_and_logits(project, tmp_path):
    layer = make()
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, project(layer, layer(ids)))
    before = layer.embeddings.numpy()
    model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(IDS, IDS, verbose=0)
    assert len(model.trainable_weights) == 1
    assert np.abs(layer.embeddings.numpy() - before).max() > 1e-2
    expected = array(layer.logits(layer(IDS)))
    np.testing.assert_allclose(model.predict(IDS, verbose=0), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_weights) == 1
    np.testing.assert_allclose(array(loaded(IDS)), expected, atol=1e-5)


def test_symbolic_rows_give_the_logits_of_rows():
    layer, rows = make(), normal(3, 4)
    symbol = keras.Input((4,))
    outputs = layer.logits(symbol)
    assert outputs.shape == (None, 10)
    np.testing.assert_allclose(
        array(keras.Model(symbol, outputs)(rows)), array(layer.logits(rows)), atol=1e-6
    )


def test_the_logits_of_a_functional_model_carry_the_mask_of_the_vectors():
    layer = make()
    np.testing.assert_array_equal(layer(layer(IDS), reverse=True)._keras_mask, IDS != 0)


class BiasedEmbedding(PositionalEmbedding):
    def logits(self, hidden):
        return super().logits(hidden) + 1.0


def test_a_subclass_with_logits_of_its_own_is_called_in_reverse():
    layer = built(BiasedEmbedding(10, 4, max_length=8))
    hidden = keras.Input((None, 4))
    with pytest.raises(ValueError, match=r"BiasedEmbedding .*embedding\(hidden, reverse=True\)"):
        layer.logits(hidden)
    model = keras.Model(hidden, layer(hidden, reverse=True))
    vectors = normal(2, 3, 4)
    np.testing.assert_allclose(array(model(vectors)), array(layer.logits(vectors)), atol=1e-6)


def test_symbolic_ids_are_embedded_by_a_call_alone():
    with pytest.raises(ValueError, match=r"embed .*embedding\(ids\)"):
        make().embed(keras.Input((None,), dtype="int32"))


def test_the_logits_of_a_masked_language_model_refuse_a_symbolic_tensor():
    model = MaskedLanguageModel(13, num_layers=1, d_model=8, num_heads=2, hidden_dim=16)
    with pytest.raises(ValueError, match=r"logits of MaskedLanguageModel .*model\({'ids'"):
        model.logits(keras.Input((None, 8)))


@pytest.mark.parametrize("wrong", [-1, 10])
def test_an_id_outside_the_vocabulary_is_refused(wrong):
    with pytest.raises(ValueError, match=rf"\[0, 10\).*{wrong}"):
        make()(np.array([[1, wrong]]))


@pytest.mark.parametrize("wrong", [-1, 10])
def test_an_id_outside_the_vocabulary_is_an_error_in_a_graph_on_a_cpu(wrong):
    with tf.device("CPU"), pytest.raises(tf.errors.InvalidArgumentError, match=r"not in \[0, 10\)"):
        tf.function(make())(tf.constant([[1, wrong]]))


def test_strings_are_refused_as_ids():
    with pytest.raises(TypeError, match=r"ids.*got strings"):
        make()(np.array([["dog"]]))


def test_a_sequence_over_max_length_is_refused():
    layer = make(max_length=3)
    layer(np.ones((1, 3), "int32"))
    with pytest.raises(ValueError, match=r"longer than max_length; got 4 tokens, max_length=3"):
        layer(np.ones((1, 4), "int32"))


@pytest.mark.parametrize("name", ["vocabulary_size", "d_model", "max_length"])
def test_a_size_below_one_is_refused(name):
    sizes = {"vocabulary_size": 10, "d_model": 4, "max_length": 8, name: 0}
    with pytest.raises(ValueError, match=f"{name}=0"):
        PositionalEmbedding(**sizes)


def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="positions='rotating'"):
        PositionalEmbedding(10, 4, max_length=8, positions="rotating")


def test_an_odd_width_is_refused_with_sinusoids_only():
    PositionalEmbedding(10, 3, max_length=8, positions="learned")
    with pytest.raises(ValueError, match="d_model=3"):
        PositionalEmbedding(10, 3, max_length=8).build()


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_outside_its_range_is_refused(dropout):
    with pytest.raises(ValueError, match=rf"\[0, 1\).* dropout={dropout}"):
        PositionalEmbedding(10, 4, max_length=8, dropout=dropout)


class DoubledEmbedding(PositionalEmbedding):
    def embed(self, ids, start_index=0):
        return 2 * super().embed(ids, start_index)


def test_a_subclass_whose_embed_takes_no_position_ids_is_called():
    ids = np.array([[5, 9, 3, 0]])
    plain, doubled = (kind(10, 4, max_length=4) for kind in (PositionalEmbedding, DoubledEmbedding))
    for layer in (plain, doubled):
        layer.build()
    doubled.set_weights(plain.get_weights())
    np.testing.assert_allclose(array(doubled(ids)), 2 * array(plain(ids)))


def test_position_ids_choose_the_position_of_each_id():
    layer = PositionalEmbedding(10, 4, max_length=4)
    apart = array(layer(np.array([[5, 9, 3]]), position_ids=np.array([[0, 1, 0]])))
    np.testing.assert_allclose(apart[0, :2], array(layer(np.array([[5, 9]])))[0])
    np.testing.assert_allclose(apart[0, 2:], array(layer(np.array([[3]])))[0])
