import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from ktransformer.decoding import (
    LengthPenalty,
    SpecialIds,
    StepFunctionModel,
    greedy_search,
    sample,
    sampling_rules,
)
from ktransformer.decoding.sampling import uniform_numbers
from tests.decoding.toy_model import END, PAD, SPECIAL, START, ToyModel, unpack

ROWS = 20_000


def draw(model, sentences, limits, *, seed=0, length_penalty=1.0, **options):
    return sample(
        StepFunctionModel(model.step, model.state(sentences)),
        tf.constant(limits, tf.int32),
        SPECIAL,
        seed=seed,
        rules=(*sampling_rules(**options), LengthPenalty(length_penalty)),
    )


def first_tokens(probabilities, *, rows=ROWS, suppressed=(), **options):
    """How often each token is drawn where the model gives these probabilities."""
    logits = tf.math.log(tf.constant([probabilities]))

    def step(ids, index, state):
        return tf.repeat(logits, tf.shape(ids)[0], axis=0), state

    special = SpecialIds(start=START, end=END, pad=PAD, suppressed=suppressed)
    found = sample(
        StepFunctionModel(step, ()), tf.fill([rows], 2), special, rules=sampling_rules(**options)
    )
    return np.bincount(found.ids[:, 0, 0], minlength=len(probabilities)) / rows


def test_the_same_seed_gives_the_same_sequences():
    model = ToyModel(0, sentences=1, scale=0.5)
    first, second = (draw(model, [0] * 50, [6] * 50, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.ids, second.ids)


def test_another_seed_gives_other_sequences():
    model = ToyModel(0, sentences=1, scale=0.5)
    first, second = (draw(model, [0] * 50, [6] * 50, seed=seed) for seed in (3, 4))
    assert (first.ids.numpy() != second.ids.numpy()).any(axis=(1, 2)).mean() > 0.5


def test_a_seed_may_be_a_tensor():
    model = ToyModel(0, sentences=1, scale=0.5)
    first, second = (draw(model, [0] * 50, [6] * 50, seed=s) for s in (3, tf.constant(3)))
    np.testing.assert_array_equal(first.ids, second.ids)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.array(3), 2**64 + 3])
def test_a_seed_may_be_any_integer(seed):
    model = ToyModel(0, sentences=1, scale=0.5)
    first, second = (draw(model, [0] * 50, [6] * 50, seed=s) for s in (3, seed))
    np.testing.assert_array_equal(first.ids, second.ids)


@pytest.mark.parametrize("seed", [-1, 2**31, 2**63, 2**32 + 3])
def test_every_bit_of_a_seed_counts(seed):
    model = ToyModel(0, sentences=1, scale=0.5)
    first, second = (draw(model, [0] * 50, [6] * 50, seed=s) for s in (3, seed))
    assert (first.ids.numpy() != second.ids.numpy()).any()


def test_options_may_be_numbers_of_numpy():
    model = ToyModel(0, sentences=1, scale=0.5)
    plain = {"temperature": 0.5, "top_k": 3, "top_p": 0.75}
    numpy = {"temperature": np.float32(0.5), "top_k": np.int64(3), "top_p": np.float64(0.75)}
    first, second = (draw(model, [0] * 50, [6] * 50, **options) for options in (plain, numpy))
    np.testing.assert_array_equal(first.ids, second.ids)


@pytest.mark.parametrize("temperature", [1e-300, 1e300])
def test_a_temperature_beyond_float32_is_as_cold_or_hot_as_can_be(temperature):
    drawn = first_tokens([0.02, 0.03, 0.1, 0.25, 0.6], temperature=temperature)
    expected = [0, 0, 0, 0, 1] if temperature < 1 else [0.2] * 5
    np.testing.assert_allclose(drawn, expected, atol=0.015)


def test_positions_are_drawn_independently():
    def step(ids, index, state):
        return tf.repeat([[-50.0, -50.0, -50.0, 0.0, 0.0]], tf.shape(ids)[0], axis=0), state

    found = sample(StepFunctionModel(step, ()), tf.fill([ROWS], 3), SPECIAL)
    pairs = (found.ids.numpy()[:, 0, :2] - 3) @ [2, 1]
    np.testing.assert_allclose(np.bincount(pairs, minlength=4) / ROWS, [0.25] * 4, atol=0.015)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**40])
def test_numbers_are_uniform_and_those_of_other_rows_positions_and_seeds_are_independent(seed):
    rows = tf.range(ROWS)
    numbers, later, other = (
        uniform_numbers(tf.constant(s, tf.int64), tf.constant(i), rows).numpy()
        for s, i in ((seed, 0), (seed, 1), (seed + 1, 0))
    )
    counts = np.histogram(numbers, 20, (0, 1))[0]
    assert ((counts - ROWS / 20) ** 2 / (ROWS / 20)).sum() < 45  # Chi-squared: p < 0.001.
    for one, two in ((numbers, later), (numbers, other), (numbers[1:], numbers[:-1])):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.03
    assert (numbers[1:] != later[:-1]).mean() > 0.99


def test_litert_draws_the_numbers_of_tensorflow():
    specs = [
        tf.TensorSpec([], tf.int64, "seed"),
        tf.TensorSpec([], tf.int32, "index"),
        tf.TensorSpec([None], tf.int32, "rows"),
    ]
    module = tf.Module()
    module.draw = tf.function(
        lambda *inputs: {"numbers": uniform_numbers(*inputs)}, input_signature=specs
    )
    traced = [module.draw.get_concrete_function()]
    content = tf.lite.TFLiteConverter.from_concrete_functions(traced, module).convert()
    run = Interpreter(model_content=content).get_signature_runner()
    for seed in (0, 3, -(2**63), 2**63 - 1):
        inputs = {"seed": np.int64(seed), "index": np.int32(5), "rows": np.arange(9, dtype="int32")}
        expected = uniform_numbers(*(tf.constant(value) for value in inputs.values()))
        np.testing.assert_array_equal(run(**inputs)["numbers"], expected)


def test_frequencies_follow_the_softmax():
    probabilities = [0.02, 0.03, 0.1, 0.25, 0.6]
    np.testing.assert_allclose(first_tokens(probabilities), probabilities, atol=0.015)


def test_temperature_sharpens_and_flattens():
    probabilities = np.array([0.1, 0.2, 0.3, 0.4], "float32")
    for temperature in 0.5, 2.0:
        powers = probabilities ** (1 / temperature)
        found = first_tokens(probabilities, temperature=temperature)
        np.testing.assert_allclose(found, powers / powers.sum(), atol=0.015)


def test_suppressed_ids_are_never_drawn_and_the_others_share():
    found = first_tokens([0.5, 0.2, 0.1, 0.1, 0.1], suppressed=(0, 1))
    np.testing.assert_allclose(found, [0, 0, 1 / 3, 1 / 3, 1 / 3], atol=0.015)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}, {"temperature": 50, "top_k": 1}],
)
def test_the_narrowest_draw_is_greedy_search(options):
    model = ToyModel(8, sentences=30)
    limits = [6, 3, 5] * 10
    found = draw(model, range(30), limits, **options)
    expected = greedy_search(
        StepFunctionModel(model.step, model.state(range(30))), tf.constant(limits), SPECIAL
    )
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def test_a_tiny_temperature_does_not_let_excluded_tokens_in():
    def step(ids, index, state):
        return tf.repeat([[-90.0, -80.0, -70.0, -30.0, -20.0]], tf.shape(ids)[0], axis=0), state

    rules = sampling_rules(temperature=1e-8, top_k=1)
    found = sample(StepFunctionModel(step, ()), tf.fill([200], 2), SPECIAL, rules=rules)
    assert set(found.ids.numpy()[:, 0, 0]) == {4}


def test_a_high_temperature_does_not_let_suppressed_tokens_in():
    found = first_tokens([0.2] * 5, suppressed=(PAD, START), temperature=1e12)
    assert found[PAD] == found[START] == 0
    assert (found[3:] > 0).all()


def test_top_k_draws_from_the_k_most_probable_in_proportion():
    found = first_tokens([0.1, 0.1, 0.1, 0.4, 0.3], top_k=2)
    np.testing.assert_allclose(found, [0, 0, 0, 4 / 7, 3 / 7], atol=0.015)


def test_top_k_above_the_vocabulary_draws_from_all():
    probabilities = [0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(first_tokens(probabilities, top_k=9), probabilities, atol=0.015)


def test_top_k_does_not_count_suppressed_ids():
    found = first_tokens([0.4, 0.3, 0.1, 0.08, 0.12], suppressed=(0, 1), top_k=2)
    np.testing.assert_allclose(found, [0, 0, 10 / 22, 0, 12 / 22], atol=0.015)


def test_top_p_draws_from_the_fewest_tokens_that_reach_it():
    probabilities = [0.05, 0.1, 0.15, 0.3, 0.4]
    np.testing.assert_allclose(
        first_tokens(probabilities, top_p=0.65), [0, 0, 0, 3 / 7, 4 / 7], atol=0.015
    )
    np.testing.assert_allclose(
        first_tokens(probabilities, top_p=0.75), [0, 0, 15 / 85, 30 / 85, 40 / 85], atol=0.015
    )


def test_top_p_always_allows_the_first_token():
    assert first_tokens([0.1, 0.1, 0.2, 0.5, 0.1], top_p=1e-9).tolist() == [0, 0, 0, 1, 0]


def test_two_tokens_that_tie_for_the_first_place_are_both_drawn():
    probabilities = [0.1, 0.1, 0.2, 0.3, 0.3]
    for options in {"top_k": 2}, {"top_p": 0.55}:
        found = first_tokens(probabilities, **options)
        np.testing.assert_allclose(found, [0, 0, 0, 0.5, 0.5], atol=0.015)


def test_a_tie_lets_no_less_probable_token_in():
    probabilities = [0.1, 0.1, 0.2, 0.3, 0.3]
    for options in {"top_k": 1}, {"top_p": 0.1}:
        assert first_tokens(probabilities, **options)[:3].tolist() == [0, 0, 0]


def test_top_p_acts_within_top_k():
    # Of the first three, 4/9 and 3/9 together are the fewest that reach 0.6.
    found = first_tokens([0.05, 0.05, 0.2, 0.3, 0.4], top_k=3, top_p=0.6)
    np.testing.assert_allclose(found, [0, 0, 0, 3 / 7, 4 / 7], atol=0.015)


def test_scores_are_the_models_whatever_the_temperature():
    model = ToyModel(13, sentences=1)
    found = draw(model, [0] * 20, [6, 3] * 10, temperature=3.0, top_k=3, length_penalty=0.6)
    for row in range(20):
        ((score, ids),) = unpack(found, row)
        total = score * len(ids) ** 0.6
        assert total == pytest.approx(model.log_probability(0, ids), rel=1e-5)


def test_a_drawn_sequence_ends_within_its_limit_and_padding_follows():
    limits = np.array([6, 3, 1, 5] * 10)
    found = draw(ToyModel(7, scale=0.5), [0] * 40, limits)
    lengths = found.lengths.numpy()[:, 0]
    assert (lengths <= limits).all()
    for ids, length in zip(found.ids.numpy()[:, 0], lengths, strict=True):
        assert np.flatnonzero(ids == END).tolist() == [length - 1]
        assert (ids[length:] == PAD).all()


def test_an_empty_batch_gives_no_hypotheses():
    assert draw(ToyModel(0), [], []).ids.shape[:2] == (0, 1)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"temperature": 0}, r"temperature.*=0"),
        ({"temperature": float("inf")}, r"temperature.*=inf"),
        ({"temperature": float("nan")}, r"temperature.*=nan"),
        ({"temperature": "hot"}, r"temperature.*'hot'"),
        ({"seed": 1.5}, r"seed.*=1.5"),
        ({"top_k": 2.0}, r"top_k.*=2.0"),
        ({"length_penalty": -1}, r"length_penalty.*=-1"),
        ({"top_k": -1}, r"top_k.*=-1"),
        ({"top_p": 0}, r"top_p.*=0"),
        ({"top_p": 1.5}, r"top_p.*=1.5"),
        ({"min_p": -0.5}, r"min_p.*=-0.5"),
        ({"min_p": 1.5}, r"min_p.*=1.5"),
    ],
)
def test_an_option_out_of_range_is_an_error_that_names_the_rule(options, rule):
    with pytest.raises(ValueError, match=rule):
        draw(ToyModel(0), [0], [3], **options)
