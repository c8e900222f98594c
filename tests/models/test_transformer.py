"""The whole model: masks, causality, the cache, sizes and saving."""

import keras
import numpy as np
import pytest
from keras import ops

from ktransformer.layers import LayerNormalization
from ktransformer.models import PRESETS, Transformer
from tests.layers.layer_checks import (
    POLICIES,
    POLICIES_AND_MODES,
    TOLERANCE,
    array,
    compiled,
    with_same_noise,
)
from tests.models.small_transformer import (
    INPUTS,
    SIZES,
    SOURCE,
    TARGET,
    VOCABULARY_SIZE,
    decode_in_steps,
    make_model,
)

NORMS = pytest.mark.parametrize("norm_first", [False, True], ids=["post_norm", "pre_norm"])
TIES = pytest.mark.parametrize("tie_embeddings", [True, False], ids=["tied", "untied"])
POSITIONS = pytest.mark.parametrize("positions", ["sinusoidal", "learned"])


def tolerance_of(logits, policy):
    """Logits are larger than 1: the tolerance grows with the largest."""
    return TOLERANCE[policy] * max(1.0, np.abs(logits).max())


def give_pad_another_vector(model):
    """Changes the pad id's row of every embedding table."""
    for embedding in {id(e): e for e in (model.source_embedding, model.target_embedding)}.values():
        table = array(embedding.embeddings)
        table[model.pad_id] = 2 * np.random.default_rng(5).normal(size=table.shape[1])
        embedding.embeddings.assign(table)


@TIES
@NORMS
@pytest.mark.parametrize("policy", POLICIES)
def test_the_vector_of_the_pad_id_changes_no_real_position(policy, norm_first, tie_embeddings):
    model = make_model(norm_first=norm_first, tie_embeddings=tie_embeddings, dtype=policy)
    target = np.array([[1, 6, 0, 4, 0], [1, 2, 3, 7, 5]], "int32")
    inputs, real = {"source": SOURCE, "target": target}, target != 0
    before = array(model(inputs))
    give_pad_another_vector(model)
    after = array(model(inputs))
    # With a tied table the pad's own logit changes; the others of a real position must not.
    np.testing.assert_allclose(
        after[real][:, 1:], before[real][:, 1:], atol=tolerance_of(before, policy)
    )
    assert np.abs(after[~real] - before[~real]).max() > 1e-2


@NORMS
@pytest.mark.parametrize("cached", [False, True], ids=["full", "cached"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_longer_padding_of_the_source_changes_nothing(policy, cached, norm_first):
    model = make_model(norm_first=norm_first, dtype=policy)
    short = {"source": SOURCE[1:, :5], "target": TARGET[1:]}
    padded = {"source": np.pad(SOURCE[1:, :5], ((0, 0), (0, 3))), "target": TARGET[1:]}
    run = (lambda inputs: decode_in_steps(model, inputs)) if cached else (lambda i: array(model(i)))
    expected = run(short)
    np.testing.assert_allclose(run(padded), expected, atol=tolerance_of(expected, policy))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_longer_padding_of_the_target_changes_no_real_position(policy):
    model = make_model(dtype=policy)
    expected = array(model(INPUTS))
    padded = array(model({"source": SOURCE, "target": np.pad(TARGET, ((0, 0), (0, 3)))}))
    np.testing.assert_allclose(padded[:, :5], expected, atol=tolerance_of(expected, policy))


@NORMS
@pytest.mark.parametrize("policy", POLICIES)
def test_a_source_of_padding_alone_gives_finite_logits(policy, norm_first):
    model = make_model(norm_first=norm_first, dtype=policy)
    inputs = {"source": np.zeros((2, 6), "int32"), "target": TARGET}
    assert np.isfinite(array(model(inputs))).all()
    assert np.isfinite(decode_in_steps(model, inputs)).all()
    for weights in model.cross_attention_weights(inputs):
        np.testing.assert_array_equal(array(weights), np.zeros((2, 2, 5, 6)))


def test_without_positions_the_order_of_the_source_does_not_matter():
    model = make_model(positions="none")
    shuffled = np.take(SOURCE, [3, 1, 0, 5, 2, 4], axis=1)
    expected = array(model(INPUTS))
    logits = array(model({"source": shuffled, "target": TARGET}))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    with_positions = make_model(positions="learned")
    logits = array(with_positions({"source": shuffled, "target": TARGET}))
    assert np.abs(logits - array(with_positions(INPUTS))).max() > 1e-2


def test_the_logits_carry_the_mask_of_the_target():
    target = np.array([[1, 6, 0, 0], [1, 2, 3, 0]], "int32")
    logits = make_model()({"source": SOURCE, "target": target})
    np.testing.assert_array_equal(logits._keras_mask, target != 0)


def test_another_pad_id_is_masked_in_its_place():
    plain, other = make_model(), make_model(pad_id=12)
    swap = {0: 12, 12: 0}
    order = np.array([swap.get(i, i) for i in range(VOCABULARY_SIZE)])
    other.set_weights(plain.get_weights())
    other.source_embedding.embeddings.assign(array(plain.source_embedding.embeddings)[order])
    logits = array(other({name: order[ids] for name, ids in INPUTS.items()}))
    np.testing.assert_allclose(logits[..., order], array(plain(INPUTS)), atol=1e-5)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(("policy", "mode"), POLICIES_AND_MODES)
def test_the_future_does_not_leak(policy, mode, training):
    model = make_model(dtype=policy, attention_dropout=0.2, hidden_dropout=0.2)

    def logits(target):
        return model({"source": SOURCE, "target": target}, training=training)

    logits = with_same_noise(model, compiled(logits, mode))
    changed = TARGET.copy()
    changed[:, 3:] = [[11, 12], [0, 2]]
    before, after = logits(ops.convert_to_tensor(TARGET)), logits(ops.convert_to_tensor(changed))
    np.testing.assert_allclose(after[:, :3], before[:, :3], atol=tolerance_of(before, policy))
    assert np.abs(after[:, 3:] - before[:, 3:]).max() > 1e-2


def test_the_whole_source_is_seen_from_the_first_target_token():
    model, changed = make_model(), SOURCE.copy()
    changed[1, 4] = 12
    logits = array(model({"source": changed, "target": TARGET}))
    assert np.abs(logits - array(model(INPUTS)))[1, 0].max() > 1e-3


@POSITIONS
@TIES
@NORMS
def test_steps_through_the_cache_equal_the_full_call(norm_first, tie_embeddings, positions):
    model = make_model(norm_first=norm_first, tie_embeddings=tie_embeddings, positions=positions)
    full, steps = array(model(INPUTS)), decode_in_steps(model, INPUTS)
    np.testing.assert_allclose(steps, full, atol=1e-4)
    np.testing.assert_array_equal(steps.argmax(-1), full.argmax(-1))


@pytest.mark.parametrize(("policy", "mode"), POLICIES_AND_MODES)
def test_compiled_and_half_precision_steps_equal_the_full_call(policy, mode):
    model = make_model(dtype=policy)
    full = array(model(INPUTS))
    steps = decode_in_steps(model, INPUTS, compiled(model.step, mode))
    np.testing.assert_allclose(steps, full, atol=tolerance_of(full, policy))


def test_the_hypotheses_of_a_sentence_step_as_they_would_alone():
    model = make_model()
    memory, cache = model.prepare_memory(SOURCE), model.empty_state(2, 5, beam_size=3)
    newest = np.array([1, 2, 3, 4, 5, 6], "int32")  # Three hypotheses for each of two sentences.
    logits = array(model.step(newest, 0, cache, memory)[0])
    for row in range(6):
        alone = {"source": SOURCE[row // 3][None], "target": newest[row].reshape(1, 1)}
        np.testing.assert_allclose(logits[row], array(model(alone))[0, 0], atol=1e-5)


@NORMS
@pytest.mark.parametrize("policy", POLICIES)
def test_cross_attention_weights_stay_on_the_real_source(policy, norm_first):
    model = make_model(norm_first=norm_first, num_decoder_layers=2, dtype=policy)
    layers = model.cross_attention_weights(INPUTS)
    assert len(layers) == 2
    for weights in layers:
        assert weights.shape == (2, 2, 5, 6)
        hidden = np.broadcast_to((SOURCE == 0)[:, None, None, :], (2, 2, 5, 6))
        np.testing.assert_array_equal(array(weights)[hidden], 0)
        np.testing.assert_allclose(array(weights).sum(-1), 1, atol=TOLERANCE[policy])


def test_cross_attention_weights_of_a_token_know_nothing_of_later_ones():
    model, changed = make_model(num_decoder_layers=2), TARGET.copy()
    changed[:, 3:] = 11
    before = model.cross_attention_weights(INPUTS)
    after = model.cross_attention_weights({"source": SOURCE, "target": changed})
    for weights, other in zip(before, after, strict=True):
        np.testing.assert_allclose(array(other)[:, :, :3], array(weights)[:, :, :3], atol=1e-6)
        assert np.abs(array(other)[:, :, 3:] - array(weights)[:, :, 3:]).max() > 1e-4


def test_cross_attention_weights_are_those_that_made_the_logits():
    model = make_model(num_decoder_layers=2)
    seen = []
    for block in model.decoder.blocks:
        attention = block.cross_attention

        def spy(*arguments, compute=attention.compute_weights):
            seen.append(array(compute(*arguments)))
            return compute(*arguments)

        attention.compute_weights = spy
    model(INPUTS)
    used = list(seen)
    for weights, expected in zip(model.cross_attention_weights(INPUTS), used, strict=True):
        np.testing.assert_allclose(array(weights), expected, atol=1e-6)


def test_tied_logits_are_the_decoder_output_times_the_one_table():
    model = make_model()
    mask = model.source_embedding.compute_mask(SOURCE)
    hidden = model.decoder(model.source_embedding(TARGET), model.encode(SOURCE), memory_mask=mask)
    table = array(model.source_embedding.embeddings)
    np.testing.assert_allclose(array(model(INPUTS)), array(hidden) @ table.T, atol=1e-5)
    assert [w.name for w in model.weights].count("embeddings") == 1


def test_untied_models_have_three_tables():
    model = make_model(tie_embeddings=False)
    tables = [w for w in model.trainable_weights if VOCABULARY_SIZE in w.shape]
    assert [w.shape for w in tables] == [(13, 8), (13, 8), (8, 13)]


TWO = {"source_vocabulary_size": 20}  # And 13 of the target.
WIDE = {**INPUTS, "source": np.array([[5, 19, 7, 0], [14, 13, 2, 18]], "int32")}


@pytest.mark.parametrize(
    ("tie_embeddings", "shapes", "added"),
    [(True, [(20, 8), (13, 8)], 20 * 8), (False, [(20, 8), (13, 8), (8, 13)], (20 - 13) * 8)],
)
def test_a_source_vocabulary_has_a_table_of_its_own(tie_embeddings, shapes, added):
    model = make_model(tie_embeddings=tie_embeddings, **TWO)
    tables = [tuple(w.shape) for w in model.trainable_weights if {20, 13} & {*w.shape}]
    assert tables == shapes
    assert model.count_params() == make_model(tie_embeddings=tie_embeddings).count_params() + added
    assert model(WIDE).shape == (2, 5, 13)
    assert model.compute_output_shape({"source": (2, 4), "target": (2, 5)}) == (2, 5, 13)


def test_the_target_stays_tied_to_the_output_beside_a_source_vocabulary():
    model = make_model(**TWO)
    hidden = array(model.hidden_states(WIDE))
    table = array(model.target_embedding.embeddings)
    np.testing.assert_array_equal(array(model.output_table()), table)
    np.testing.assert_allclose(array(model(WIDE)), hidden @ table.T, atol=1e-5)


@TIES
def test_steps_with_two_vocabularies_equal_the_full_call(tie_embeddings):
    model = make_model(tie_embeddings=tie_embeddings, **TWO)
    np.testing.assert_allclose(decode_in_steps(model, WIDE), array(model(WIDE)), atol=1e-5)


@pytest.mark.parametrize(("side", "size"), [("source", 20), ("target", 13)])
@pytest.mark.parametrize("wrong", [-1, 0])  # Below 0, and the first beyond the end.
def test_each_side_takes_the_ids_of_its_vocabulary(side, size, wrong):
    ids = np.full((2, 4), wrong or size, "int32")
    with pytest.raises(ValueError, match=rf"{size}.*{wrong or size}"):
        make_model(**TWO)({**WIDE, side: ids})


def test_scaled_embeddings_are_larger_by_the_root_of_the_width():
    scaled, plain = make_model(), make_model(scale_embeddings=False)
    difference = array(scaled.target_embedding(TARGET)) - array(plain.target_embedding(TARGET))
    expected = (8**0.5 - 1) * array(plain.target_embedding.embeddings)[TARGET]
    np.testing.assert_allclose(difference, expected, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_logits_have_the_shape_and_dtype_that_the_docstring_says(policy):
    model = make_model(dtype=policy)
    logits = model(INPUTS)
    assert logits.shape == (2, 5, VOCABULARY_SIZE)
    assert keras.backend.standardize_dtype(logits.dtype) == model.compute_dtype


def count_by_hand(vocabulary_size, num_layers, d_model, hidden_dim):
    """Counts a tied, post-norm, sinusoidal model's parameters by the paper's sizes."""
    attention = 4 * (d_model * d_model + d_model)
    feed_forward = 2 * d_model * hidden_dim + hidden_dim + d_model
    norm = 2 * d_model
    encoder_block = attention + feed_forward + 2 * norm
    decoder_block = 2 * attention + feed_forward + 3 * norm
    return vocabulary_size * d_model + num_layers * (encoder_block + decoder_block)


# The big model is built with a vocabulary of 8, to spare 150 MB; each id has 1,024 parameters.
@pytest.mark.parametrize(
    ("preset", "vocabulary_size", "parameters"),
    [("tiny", 9712, 2_568_192), ("base", 37000, 63_082_496), ("big", 8, 176_365_568)],
)
def test_the_presets_have_the_parameters_of_the_paper(preset, vocabulary_size, parameters):
    sizes = {name: PRESETS[preset][name] for name in ("num_layers", "d_model", "hidden_dim")}
    assert count_by_hand(vocabulary_size, **sizes) == parameters
    model = Transformer.from_preset(preset, vocabulary_size)
    model.build()
    assert model.count_params() == parameters


def test_overrides_take_the_place_of_a_preset():
    model = Transformer.from_preset("tiny", 50, num_layers=1, dropout=0.3)
    assert (model.num_layers, model.num_decoder_layers, model.d_model) == (1, 1, 128)
    assert model.dropout == 0.3


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset .*\['base', 'big', 'tiny'\]"):
        Transformer.from_preset("small", 50)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vocabulary_size": 0}, r"vocabulary_size .*1.*vocabulary_size=0"),
        ({"source_vocabulary_size": 0}, r"source_vocabulary_size .*1.*source_vocabulary_size=0"),
        ({"num_layers": 0}, r"num_layers .*1.*num_layers=0"),
        ({"num_decoder_layers": 0}, r"num_decoder_layers .*1"),
        ({"num_heads": 0}, r"num_heads .*1.*num_heads=0"),
        ({"num_heads": 3}, r"d_model.*num_heads.*d_model=8.*num_heads=3"),
        ({"hidden_dim": 0}, r"hidden_dim .*1.*hidden_dim=0"),
        ({"max_length": 0}, r"max_length .*1.*max_length=0"),
        ({"d_model": 7, "num_heads": 1}, r"d_model.*sinusoidal"),
        ({"positions": "sideways"}, "positions"),
        ({"attention_dropout": 1.0}, "dropout"),
        ({"hidden_dropout": -0.1}, "dropout"),
        ({"dropout": 1.0}, "dropout"),
    ],
    ids=str,
)
def test_an_impossible_size_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**{**SIZES, **wrong}).build()


def test_a_source_over_max_length_is_refused():
    with pytest.raises(ValueError, match=r"9.*max_length=8"):
        make_model()({"source": np.ones((1, 9), "int32"), "target": TARGET[:1]})


@TIES
def test_the_output_bias_is_added_to_the_logits(tie_embeddings):
    model = make_model(tie_embeddings=tie_embeddings, output_bias=True)
    bias = np.arange(13, dtype="float32")
    model.output_bias_weight.assign(bias)
    assert model.output_bias_weight.path == f"{model.name}/output_bias"
    biased = array(model(INPUTS))
    columns = array(model.output_columns(np.array([7, 3]))[1])
    model.output_bias_weight.assign(0 * bias)
    np.testing.assert_allclose(biased - array(model(INPUTS)), biased * 0 + bias, atol=1e-5)
    np.testing.assert_array_equal(columns, [7, 3])
    without = make_model(tie_embeddings=tie_embeddings)
    assert model.count_params() - without.count_params() == 13


@TIES
@NORMS
def test_a_saved_model_loads_with_the_same_config_and_logits(norm_first, tie_embeddings, tmp_path):
    model = make_model(
        norm_first=norm_first,
        tie_embeddings=tie_embeddings,
        positions="learned",
        scale_embeddings=False,
        activation="gelu",
        attention_dropout=0.1,
        hidden_dropout=0.3,
        output_bias=norm_first,
        pad_id=2,
        epsilon=1e-3,
        dtype="mixed_bfloat16",
    )
    expected = array(model(INPUTS))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(array(loaded(INPUTS)), expected)
    np.testing.assert_array_equal(decode_in_steps(loaded, INPUTS), decode_in_steps(model, INPUTS))


def test_a_saved_model_with_two_vocabularies_loads_with_both(tmp_path):
    model = make_model(**TWO)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["source_vocabulary_size"] == 20
    np.testing.assert_array_equal(array(loaded(WIDE)), array(model(WIDE)))


def test_every_norm_takes_the_models_epsilon_from_its_config():
    config = make_model(norm_first=True, epsilon=1e-3).get_config()
    assert epsilons(Transformer.from_config(config)) == {1e-3}
    del config["epsilon"]  # As models were saved that had no other.
    assert epsilons(Transformer.from_config(config)) == {1e-5}


def epsilons(model):
    layers = model._flatten_layers()
    return {layer.epsilon for layer in layers if isinstance(layer, LayerNormalization)}


def test_weights_alone_load_into_another_model(tmp_path):
    model, other = make_model(), Transformer(**SIZES)
    other.build()
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(array(other(INPUTS)), array(model(INPUTS)))
