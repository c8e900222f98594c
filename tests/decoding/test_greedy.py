import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    LengthPenalty,
    SpecialIds,
    StepFunctionModel,
    beam_search,
    greedy_search,
    length_limits,
)
from tests.decoding.toy_model import END, PAD, SPECIAL, START, ToyModel, unpack


def search(model, sentences, limits, *, special=SPECIAL, **options):
    limits = tf.constant(limits, tf.int32)
    return greedy_search(
        StepFunctionModel(model.step, model.state(sentences)), limits, special, **options
    )


def follow(model, sentence, limit):
    ids = []
    while END not in ids:
        log_probabilities = model.log_probabilities(sentence, ids)
        allowed = [END, *model.words] if len(ids) < limit - 1 else [END]
        ids.append(max(allowed, key=lambda token: log_probabilities[token]))
    return ids


def test_each_token_is_the_most_probable():
    limits = [6, 3, 1, 5, 6, 4, 6, 2]
    for seed in range(5):
        model = ToyModel(seed, sentences=8)
        found = search(model, range(8), limits)
        for row, limit in enumerate(limits):
            assert [ids for _, ids in unpack(found, row)] == [follow(model, row, limit)]


def test_a_case_written_by_hand():
    # Position 0: word 3. Position 1: word 4. Position 2: the end.
    best = tf.constant([3, 4, END])

    def step(ids, index, state):
        return tf.math.log(tf.one_hot([best[index]], 5) * 0.5 + 0.1), state

    found = greedy_search(
        StepFunctionModel(step, ()), tf.constant([5]), SPECIAL, rules=(LengthPenalty(1.0),)
    )
    assert found.ids.numpy().tolist() == [[[3, 4, END, PAD, PAD]]]
    assert found.lengths.numpy().tolist() == [[3]]
    np.testing.assert_allclose(found.scores, [[np.log(0.6)]], rtol=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_a_score_is_the_models_own_for_the_sequence(length_penalty):
    model = ToyModel(13, sentences=4)
    found = search(model, range(4), [6, 3, 1, 5], rules=(LengthPenalty(length_penalty),))
    for row in range(4):
        ((score, ids),) = unpack(found, row)
        total = score * len(ids) ** length_penalty
        assert total == pytest.approx(model.log_probability(row, ids), rel=1e-5)


def test_a_batch_gives_what_its_sentences_give_one_by_one():
    limits = [6, 2, 4, 1, 5]
    model = ToyModel(11, sentences=5)
    together = search(model, range(5), limits)
    for row, limit in enumerate(limits):
        alone = search(model, [row], [limit])
        np.testing.assert_array_equal(together.ids[row, :, :limit], alone.ids[0])
        np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-6)


@pytest.mark.parametrize("garbage", [50.0, float("nan")])
def test_a_finished_sentence_does_not_depend_on_what_the_step_returns_later(garbage):
    model = ToyModel(5, sentences=2)
    model.table[1, :, :, :, END] -= 50.0  # The neighbour runs to its limit.
    expected = search(model, [0, 1], [2, 6])

    def step(ids, index, state):
        logits, next_state = model.step(ids, index, state)
        finished = (state["sentence"] == 0) & (index >= 2)
        noise = tf.random.stateless_normal(tf.shape(logits), [0, 0]) * garbage
        return tf.where(finished[:, None], noise, logits), next_state

    found = greedy_search(
        StepFunctionModel(step, model.state([0, 1])), tf.constant([2, 6]), SPECIAL
    )
    assert found.lengths.numpy()[1].tolist() == [6]
    for tensor, expected_tensor in zip(found, expected, strict=True):
        np.testing.assert_array_equal(tensor, expected_tensor)


def test_suppressed_ids_never_appear():
    suppressed = (PAD, START, 4)
    special = SpecialIds(start=START, end=END, pad=PAD, suppressed=suppressed)
    model = ToyModel(2, sentences=30)
    model.table[..., list(suppressed)] += 20.0
    found = search(model, range(30), [6] * 30, special=special)
    chosen = {token for row in range(30) for _, ids in unpack(found, row) for token in ids}
    assert chosen == {END, 3, 5}


def test_lengths_count_the_end_token_and_padding_follows():
    found = search(ToyModel(7, sentences=10), range(10), [6, 5] * 5)
    for ids, (length,) in zip(found.ids.numpy()[:, 0], found.lengths.numpy(), strict=True):
        assert np.flatnonzero(ids == END).tolist() == [length - 1]
        assert (ids[:length] != PAD).all()
        assert (ids[length:] == PAD).all()


def test_the_search_stops_when_every_sentence_has_ended():
    model = ToyModel(1, sentences=2)
    model.table[:, 2, :, :, END] = 50.0
    model.table[:, :2, :, :, END] = -50.0
    search(model, [0, 1], [6, 5])
    assert model.calls == 3


def test_an_empty_batch_gives_no_hypotheses():
    found = search(ToyModel(0), [], [])
    assert found.ids.shape[:2] == (0, 1)
    assert found.scores.shape == (0, 1)


def test_a_graph_serves_every_batch_size():
    model = ToyModel(4, sentences=3)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 2)
    def graph(sentences, limits):
        state = {"sentence": sentences, "past": (tf.zeros_like(sentences),)}
        return greedy_search(StepFunctionModel(model.step, state), limits, SPECIAL)

    for sentences, limits in ([], []), ([2], [4]), ([0, 1, 2], [6, 1, 3]):
        found = graph(tf.constant(sentences, tf.int32), tf.constant(limits, tf.int32))
        expected = search(model, sentences, limits)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def test_length_limits_follow_the_source_within_one_and_the_maximum():
    limits = length_limits(tf.constant([0, 3, 5, 100]), ratio=1.5, offset=2, maximum=20)
    assert limits.numpy().tolist() == [2, 6, 9, 20]
    limits = length_limits(tf.constant([0, 1]), ratio=2.0, offset=-3, maximum=20)
    assert limits.numpy().tolist() == [1, 1]


class Staged(StepFunctionModel):
    """Steps the toy model in stages; its state needs no room."""

    stages = (2, 4, 8)

    def grow(self, state, positions):
        self.grown = [*getattr(self, "grown", []), positions]
        return state


def test_stages_find_what_chunks_find():
    model = ToyModel(4, sentences=8)
    limits = tf.constant([6, 3, 1, 5, 6, 4, 6, 2])
    for beam_size in (1, 3):
        state = model.state(range(8), beam_size)
        plain, staged = (kind(model.step, state) for kind in (StepFunctionModel, Staged))
        expected = beam_search(plain, limits, SPECIAL, beam_size=beam_size, n_best=beam_size)
        found = beam_search(staged, limits, SPECIAL, beam_size=beam_size, n_best=beam_size)
        assert staged.grown == [2, 4]
        np.testing.assert_array_equal(found.ids[..., :6], expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    staged = Staged(model.step, model.state(range(8)))
    found = greedy_search(staged, limits, SPECIAL)
    np.testing.assert_array_equal(found.ids[..., :6], search(model, range(8), limits).ids)
    assert found.ids.shape[2] == 8
