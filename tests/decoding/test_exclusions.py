"""Rules that exclude tokens, on hypotheses of two or three tokens, where runs repeat."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    Context,
    FirstTokens,
    NoLoops,
    NoRepeatedNgrams,
    NthFirstToken,
    SpecialIds,
    SuppressedSequences,
)
from ktransformer.errors import InputError

SIZE = 5


def excluded(rule, ids, index, logits=None, state=(), started=0):
    """Returns which tokens a rule excludes, `[N, V]`, after `index` tokens of `ids` `[N, T]`."""
    rows, length = ids.shape
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
    ids[:20], ids[20:40] = 0, np.resize([0, 1, 1], 30)
    for index in (0, 1, 2, 5, 12, 29):
        expected = [
            [loops([*row[:index], token], copies, longest) for token in range(SIZE)] for row in ids
        ]
        np.testing.assert_array_equal(excluded(NoLoops(copies, longest), ids, index), expected)


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
