"""Rules that exclude tokens, on hypotheses of two or three tokens, where runs repeat."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    Context,
    FirstTokens,
    ForcedPrefix,
    NoLoops,
    NoRepeatedNgrams,
    NthFirstToken,
    SpecialIds,
    StepFunctionModel,
    SuppressedSequences,
    beam_search,
    greedy_search,
)
from ktransformer.errors import InputError
from tests.decoding.toy_model import SPECIAL, ToyModel

SIZE = 5


def excluded(rule, ids, index, logits=None, state=None, started=0):
    """Returns which tokens a rule excludes, `[N, V]`, after `index` tokens of `ids` `[N, T]`."""
    rows, length = ids.shape
    state = rule.start(tf.constant(rows)) if state is None else state
    context = Context(
        index=tf.constant(index),
        ids=tf.constant(ids, tf.int32),
        written=tf.broadcast_to(tf.range(length) < index, ids.shape),
        counts=tf.fill([rows], index - started),
        limits=tf.fill([rows], length),
        special=SpecialIds(start=0, end=SIZE - 1, pad=2),
    )
    logits = tf.zeros([rows, SIZE]) if logits is None else tf.constant(logits, tf.float32)
    return rule.apply(logits, context, state)[0].numpy() < -1e8


def loops(tokens, copies, longest):
    runs = range(1, longest + 1)
    return any(
        len(tokens) >= (copies + 1) * p
        and tokens[-(copies + 1) * p :] == tokens[-p:] * (copies + 1)
        for p in runs
    )


@pytest.mark.parametrize(("copies", "longest"), [(1, 1), (1, 3), (2, 3), (3, 8)])
def test_no_run_stands_more_often_in_a_row(copies, longest):
    ids = np.random.default_rng(0).integers(0, 2, (200, 30))
    for row, run in enumerate([[0], [0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1, 0, 0, 0], [0] * 7 + [1]]):
        ids[row] = np.resize(run, 30)
    for index in range(30):
        expected = [
            [loops([*row[:index], token], copies, longest) for token in range(SIZE)] for row in ids
        ]
        np.testing.assert_array_equal(excluded(NoLoops(copies, longest), ids, index), expected)


def test_exempt_sentences_may_loop():
    rule = NoLoops(2, exempt=tf.constant([False, True]))
    assert excluded(rule, np.zeros((2, 8)), 5).tolist() == [[True] + [False] * 4, [False] * 5]


@pytest.mark.parametrize(("copies", "longest"), [(1, 1), (2, 3), (3, 8)])
def test_texts_that_repeat_a_run_are_found(copies, longest):
    random = np.random.default_rng(2)
    ids = random.integers(1, 4, (300, 34)) * (np.arange(34) < random.integers(0, 35, (300, 1)))
    ids[:30, :16] = random.integers(1, 3, (30, 16))
    texts = [row[row > 0].tolist() for row in ids]
    expected = [
        any(loops(text[:end], copies, longest) for end in range(1, len(text) + 1)) for text in texts
    ]
    found = NoLoops(copies, longest).find_repeating(tf.constant(ids, tf.int32), pad=0)
    assert found.numpy().tolist() == expected
    assert 0 < sum(expected) < 300


class _ByLogits(NoLoops):
    """The same rule with a method `apply` of its own, so that a search changes all logits."""

    def apply(self, logits, context, state):
        return super().apply(logits, context, state)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("score_forced_end", [True, False])
def test_a_search_drops_excluded_candidates_as_if_their_logits_were_changed(
    beam_size, score_forced_end
):
    toy, rows = ToyModel(3, sentences=6, positions=14, vocabulary_size=7, scale=3.0), 6
    prefix = ForcedPrefix(tf.constant([[3, 3], [4, 0], [0, 0], [5, 4], [3, 4], [6, 6]]))
    exempt = tf.constant([False] * 5 + [True])

    def search(*rules):
        model = StepFunctionModel(toy.step, toy.state([*range(rows)], beam_size))
        limits = tf.constant([12, 12, 9, 12, 3, 12])
        options = {"rules": [prefix, *rules], "score_forced_end": score_forced_end}
        if beam_size == 1:
            return greedy_search(model, limits, SPECIAL, **options)
        return beam_search(model, limits, SPECIAL, beam_size=beam_size, n_best=3, **options)

    dropped, changed = (search(kind(1, 4, exempt)) for kind in (NoLoops, _ByLogits))
    for found, expected in zip(dropped, changed, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (dropped.ids.numpy() != search().ids.numpy()).any()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_size_that_is_a_tensor_excludes_the_same_ngrams(size):
    ids = np.random.default_rng(1).integers(0, 3, (60, 12))
    for index in (0, 1, 4, 11):
        np.testing.assert_array_equal(
            excluded(NoRepeatedNgrams(tf.constant(size)), ids, index),
            excluded(NoRepeatedNgrams(size), ids, index),
        )


def test_a_size_of_0_is_no_rule():
    assert not excluded(NoRepeatedNgrams(tf.constant(0)), np.zeros((2, 6)), 4).any()


def test_a_sequence_is_not_completed_and_one_token_not_written():
    rule = SuppressedSequences(
        tf.constant([[3, 4, 0], [2, 0, 0], [0, 0, 0]]), tf.constant([2, 1, 0])
    )
    found = excluded(rule, np.array([[1, 3, 0], [3, 1, 0]]), 2)
    assert found.tolist() == [[False, False, True, False, True], [False, False, True, False, False]]


def test_a_sequence_longer_than_the_text_is_no_obstacle():
    rule = SuppressedSequences(tf.constant([[3, 4, 4, 4]]), tf.constant([4]))
    assert not excluded(rule, np.array([[3, 4]]), 1).any()


def test_first_tokens_are_those_allowed_for_the_chosen_sentences():
    rule = FirstTokens(tf.constant([True, False, True, True, True]), tf.constant([True, False]))
    state, ids = rule.start(tf.constant(2)), np.zeros((2, 4))
    assert excluded(rule, ids, 2, state=state, started=2).tolist() == [
        [False, True] + [False] * 3,
        [False] * 5,
    ]
    assert not excluded(rule, ids, 3, state=state, started=2).any()


def test_the_nth_first_token_is_the_only_one():
    rule = NthFirstToken(tf.constant([0, 1, -1]))
    logits = [[5, 1, 4, 2, 3]] * 3
    state, ids = rule.start(tf.constant(3)), np.zeros((3, 4))
    allowed = ~excluded(rule, ids, 0, logits, state)
    assert [np.flatnonzero(row).tolist() for row in allowed] == [[0], [2], [0, 1, 2, 3, 4]]
    assert not excluded(rule, ids, 1, logits, state).any()


@pytest.mark.parametrize(("name", "options"), [("copies", (0,)), ("longest", (2, 0.5))])
def test_loops_are_counted_in_whole_numbers(name, options):
    with pytest.raises(InputError, match=name):
        NoLoops(*options)
