import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    LengthPenalty,
    SpecialIds,
    StepFunctionModel,
    beam_search,
    greedy_search,
)
from tests.decoding.toy_model import (
    END,
    PAD,
    SPECIAL,
    START,
    ToyModel,
    assert_same_hypotheses,
    brute_force,
    plain_beam_search,
    unpack,
)

PENALTIES = (0.0, 0.6, 1.0)


def search(
    model,
    sentences,
    limits,
    *,
    beam_size,
    special=SPECIAL,
    length_penalty=1.0,
    rules=(),
    n_best=1,
    **options,
):
    state = model.state(sentences, beam_size)
    return beam_search(
        StepFunctionModel(model.step, state),
        tf.constant(limits, tf.int32),
        special,
        beam_size=beam_size,
        n_best=n_best,
        rules=(*rules, LengthPenalty(length_penalty)),
        **options,
    )


def favourites(log_probabilities):
    """A step that gives every hypothesis the same probabilities, whatever went before."""

    def step(ids, index, state):
        return tf.repeat(tf.constant([log_probabilities]), tf.shape(ids)[0], axis=0), state

    return step


@pytest.mark.parametrize("length_penalty", PENALTIES)
@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_what_brute_force_finds(seed, length_penalty):
    limits = [4, 1, 3, 2, 4]
    model = ToyModel(seed, sentences=5)
    # 40 sequences of three words end within four tokens, so that none is ever left out.
    found = search(model, range(5), limits, beam_size=41, n_best=6, length_penalty=length_penalty)
    for row, limit in enumerate(limits):
        expected = brute_force(model, row, limit, n_best=6, length_penalty=length_penalty)
        assert_same_hypotheses(unpack(found, row), expected)


@pytest.mark.parametrize("length_penalty", PENALTIES)
@pytest.mark.parametrize(("beam_size", "n_best"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (5, 2)])
def test_a_small_beam_follows_the_written_rule(beam_size, n_best, length_penalty):
    limits = [6, 3, 5, 1, 6, 2, 4, 6]
    options = {"beam_size": beam_size, "n_best": n_best, "length_penalty": length_penalty}
    for seed in range(3):
        model = ToyModel(seed, sentences=8)
        found = search(model, range(8), limits, **options)
        for row, limit in enumerate(limits):
            expected, _ = plain_beam_search(model, row, limit, **options)
            assert_same_hypotheses(unpack(found, row), expected)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("beam_size", "n_best"), [(2, 1), (3, 3)])
def test_a_late_end_follows_the_written_rule(beam_size, n_best, length_penalty):
    limits = [6, 3, 5, 1, 6, 2, 4, 6]
    options = {"beam_size": beam_size, "n_best": n_best, "length_penalty": length_penalty}
    options |= {"early_stopping": False, "score_forced_end": False}
    model = ToyModel(1, sentences=8)
    found = search(model, range(8), limits, **options)
    for row, limit in enumerate(limits):
        expected, _ = plain_beam_search(model, row, limit, **options)
        assert_same_hypotheses(unpack(found, row), expected)


def test_a_wide_beam_with_a_late_end_finds_what_brute_force_finds():
    model, limits = ToyModel(3, sentences=2), [4, 3]
    # 40 sequences end within four tokens: the beam never has as many finished ones as places.
    found = search(model, range(2), limits, beam_size=41, n_best=6, early_stopping=False)
    for row, limit in enumerate(limits):
        expected = brute_force(model, row, limit, n_best=6, length_penalty=1.0)
        assert_same_hypotheses(unpack(found, row), expected)


@pytest.mark.parametrize(
    ("length_penalty", "early_stopping"), [*((p, True) for p in PENALTIES), (1.0, False)]
)
def test_the_search_takes_as_many_steps_as_the_written_rule(length_penalty, early_stopping):
    options = {"beam_size": 3, "n_best": 1, "length_penalty": length_penalty}
    options |= {"early_stopping": early_stopping}
    all_steps = []
    for seed in range(10):
        model = ToyModel(seed)
        search(model, [0], [6], **options)
        _, steps = plain_beam_search(model, 0, 6, **options)
        assert model.calls == steps
        all_steps.append(steps)
    assert min(all_steps) < 6  # Or nothing ended early, and the above says little.


@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_an_early_end_does_not_change_the_best(length_penalty):
    options = {"beam_size": 6, "n_best": 1, "length_penalty": length_penalty}
    saved = 0
    for seed in range(10):
        model = ToyModel(seed, scale=3.0)
        found = search(model, [0], [6], **options)
        expected, steps = plain_beam_search(model, 0, 6, **options, bounded=False)
        assert_same_hypotheses(unpack(found, 0), expected)
        saved += steps - model.calls
    assert saved > 0


def test_the_search_stops_when_no_live_hypothesis_can_win():
    calls = []
    log_probabilities = np.log([1e-9, 1e-9, 0.9, 0.06, 0.04]).astype("float32")

    def step(ids, index, state):
        calls.append(int(index))
        return favourites(log_probabilities)(ids, index, state)

    limits = tf.constant([50, 50])
    beam_search(StepFunctionModel(step, ()), limits, SPECIAL, beam_size=3, rules=[LengthPenalty(0)])
    assert calls == [0]  # log 0.06 is below log 0.9, and only falls.


def test_the_search_goes_on_while_a_longer_hypothesis_can_win():
    # Ending at once costs log 0.4. Per token, "3 end" is cheaper: (log 0.5 + log 0.99) / 2.
    first = np.log([[1e-9, 1e-9, 0.4, 0.5, 0.1]]).astype("float32")
    second = np.log([[1e-9, 1e-9, 0.99, 0.005, 0.005]]).astype("float32")

    def step(ids, index, state):
        logits = tf.where(index == 0, first, second)
        return tf.repeat(logits, tf.shape(ids)[0], axis=0), state

    limits = tf.constant([5])
    found = beam_search(StepFunctionModel(step, ()), limits, SPECIAL, beam_size=2, n_best=2)
    assert found.ids.numpy().tolist() == [[[3, END, PAD, PAD, PAD], [END, PAD, PAD, PAD, PAD]]]
    np.testing.assert_allclose(
        found.scores, [[(np.log(0.5) + np.log(0.99)) / 2, np.log(0.4)]], rtol=1e-5
    )
    assert found.lengths.numpy().tolist() == [[2, 1]]


@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_beam_one_is_greedy_search(length_penalty):
    limits = [6, 3, 1, 5, 6, 6]
    for seed in range(5):
        model = ToyModel(seed, sentences=6)
        beam = search(model, range(6), limits, beam_size=1, length_penalty=length_penalty)
        greedy = greedy_search(
            StepFunctionModel(model.step, model.state(range(6))),
            tf.constant(limits),
            SPECIAL,
            rules=(LengthPenalty(length_penalty),),
        )
        np.testing.assert_array_equal(beam.ids, greedy.ids)
        np.testing.assert_array_equal(beam.lengths, greedy.lengths)
        np.testing.assert_allclose(beam.scores, greedy.scores, rtol=1e-5)


def test_a_batch_gives_what_its_sentences_give_one_by_one():
    limits = [6, 2, 4, 1, 5]
    model = ToyModel(11, sentences=5)
    together = search(model, range(5), limits, beam_size=3, n_best=3)
    for row, limit in enumerate(limits):
        alone = search(model, [row], [limit], beam_size=3, n_best=3)
        np.testing.assert_array_equal(together.ids[row, :, :limit], alone.ids[0])
        np.testing.assert_array_equal(together.lengths[row], alone.lengths[0])
        # A product of five rows may be rounded in another way than that of one.
        np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("garbage", [50.0, -50.0, float("nan")])
def test_a_finished_sentence_does_not_depend_on_what_the_step_returns_later(garbage):
    model = ToyModel(5, sentences=2)
    expected = search(model, [0, 1], [2, 6], beam_size=3, n_best=3)

    def step(ids, index, state):
        logits, next_state = model.step(ids, index, state)
        finished = (state["sentence"] == 0) & (index >= 2)
        noise = tf.random.stateless_normal(tf.shape(logits), [0, 0]) * garbage
        return tf.where(finished[:, None], noise, logits), next_state

    limits = tf.constant([2, 6])
    found = beam_search(
        StepFunctionModel(step, model.state([0, 1], 3)), limits, SPECIAL, beam_size=3, n_best=3
    )
    for tensor, expected_tensor in zip(found, expected, strict=True):
        np.testing.assert_array_equal(tensor, expected_tensor)


def test_suppressed_ids_never_appear():
    suppressed = (PAD, START, 4)
    special = SpecialIds(start=START, end=END, pad=PAD, suppressed=suppressed)
    model = ToyModel(2, sentences=20)
    model.table[..., list(suppressed)] += 20.0
    found = search(model, range(20), [6] * 20, beam_size=4, n_best=4, special=special)
    chosen = {token for row in range(20) for _, ids in unpack(found, row) for token in ids}
    assert chosen == {END, 3, 5}


def test_the_price_of_a_token_counts_the_probability_of_the_suppressed_ones():
    log_probabilities = np.log([0.5, 0.1, 0.3, 0.1]).astype("float32")
    found = beam_search(
        StepFunctionModel(favourites(log_probabilities), ()), tf.constant([1]), SPECIAL, beam_size=2
    )
    np.testing.assert_allclose(found.scores, [[np.log(0.3)]], rtol=1e-5)


def test_lengths_count_the_end_token_and_padding_follows():
    model = ToyModel(7, sentences=10)
    found = search(model, range(10), [6, 5] * 5, beam_size=4, n_best=4)
    for ids, length in zip(
        found.ids.numpy().reshape(-1, 6), found.lengths.numpy().reshape(-1), strict=True
    ):
        assert np.flatnonzero(ids == END).tolist() == [length - 1]
        assert (ids[:length] != PAD).all()
        assert (ids[length:] == PAD).all()


@pytest.mark.parametrize("length_penalty", PENALTIES)
def test_a_score_is_the_models_own_for_the_sequence(length_penalty):
    model = ToyModel(13, sentences=4)
    found = search(
        model, range(4), [6, 3, 1, 5], beam_size=3, n_best=3, length_penalty=length_penalty
    )
    for row in range(4):
        for score, ids in unpack(found, row):
            total = score * len(ids) ** length_penalty
            assert total == pytest.approx(model.log_probability(row, ids), rel=1e-5)


def test_the_hypotheses_of_a_sentence_differ():
    found = search(ToyModel(3), [0], [6], beam_size=5, n_best=5)
    assert len({tuple(ids) for ids in found.ids[0].numpy().tolist()}) == 5


def test_hypotheses_that_do_not_exist_are_padding_with_the_lowest_score():
    found = search(ToyModel(3), [0], [1], beam_size=3, n_best=3)
    assert found.ids.numpy().tolist() == [[[END], [PAD], [PAD]]]
    assert found.lengths.numpy().tolist() == [[1, 0, 0]]
    assert found.scores.numpy()[0, 1:].tolist() == [-1e9, -1e9]


def test_a_beam_may_be_wider_than_the_vocabulary():
    model = ToyModel(3)
    options = {"beam_size": 17, "n_best": 17, "length_penalty": 1.0}
    expected, _ = plain_beam_search(model, 0, 4, **options)
    assert_same_hypotheses(unpack(search(model, [0], [4], **options), 0), expected)


def test_half_precision_logits_are_scored_in_float32():
    model = ToyModel(3)

    def step(ids, index, state):
        logits, state = model.step(ids, index, state)
        return tf.cast(logits, tf.float16), state

    model.table = model.table.astype("float16").astype("float32")
    found = beam_search(
        StepFunctionModel(step, model.state([0], 3)), tf.constant([6]), SPECIAL, beam_size=3
    )
    expected = search(model, [0], [6], beam_size=3)
    assert found.scores.dtype == tf.float32
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_an_empty_batch_gives_no_hypotheses():
    found = search(ToyModel(0), [], [], beam_size=3, n_best=2)
    assert found.ids.shape[:2] == (0, 2)
    assert found.scores.shape == (0, 2)
    assert found.lengths.shape == (0, 2)


def test_a_graph_serves_every_batch_size():
    model = ToyModel(4, sentences=3)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 2)
    def graph(sentences, limits):
        rows = tf.repeat(sentences, 3)
        state = {"sentence": rows, "past": (tf.zeros_like(rows),)}
        return beam_search(
            StepFunctionModel(model.step, state), limits, SPECIAL, beam_size=3, n_best=2
        )

    for sentences, limits in ([], []), ([2], [4]), ([0, 1, 2], [6, 1, 3]):
        found = graph(tf.constant(sentences, tf.int32), tf.constant(limits, tf.int32))
        expected = search(model, sentences, limits, beam_size=3, n_best=2)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"beam_size": 0}, "n_best=1, beam_size=0"),
        ({"beam_size": 2, "n_best": 0}, "n_best=0, beam_size=2"),
        ({"beam_size": 2, "n_best": 3}, "n_best=3, beam_size=2"),
        ({"beam_size": 2, "length_penalty": -1}, r"length_penalty.*-1"),
    ],
)
def test_an_option_out_of_range_is_an_error_that_names_the_rule(options, rule):
    with pytest.raises(ValueError, match=rule):
        search(ToyModel(0), [0], [3], **options)
