import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import SpecialIds
from ktransformer.decoding.candidates import find_candidates

SPECIAL = SpecialIds(start=2, end=3, pad=0, suppressed=(0, 1, 2))


def find(logits, totals, count, *, at_limit=False, special=SPECIAL):
    """What `find_candidates` gives for logits `[B, K, V]`, as NumPy arrays."""
    rows = logits.reshape(-1, logits.shape[-1]).astype("float32")
    at_limit = tf.fill([len(logits)], at_limit)
    found = find_candidates(
        tf.constant(rows), tf.constant(totals), count, special, at_limit=at_limit
    )
    return [tensor.numpy() for tensor in found]


def sort_everything(logits, totals, count, special=SPECIAL):
    """The same by sorting the whole vocabulary in float64; of equal ones the first comes first."""
    logits = logits.astype("float64")
    scores = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)) + totals[..., None]
    scores[..., list(special.suppressed)] = -np.inf
    flat = scores.reshape(len(scores), -1)
    order = np.argsort(-np.round(flat, 5), axis=1, kind="stable")[:, :count]
    parents, tokens = np.divmod(order, logits.shape[-1])
    return np.take_along_axis(flat, order, axis=1), tokens, parents


@pytest.mark.parametrize("vocabulary_size", [7, 127, 1000, 1009, 10_000])
@pytest.mark.parametrize(("beam_size", "count"), [(1, 1), (3, 6)])
def test_candidates_are_those_of_a_whole_sort(vocabulary_size, beam_size, count):
    random = np.random.default_rng(vocabulary_size)
    logits = random.normal(size=(5, beam_size, vocabulary_size)) * 3
    logits[1, :, -1] = 30  # The last token, after which a vocabulary of odd size is padded.
    logits[2, :, :3] = 30  # The suppressed ones.
    totals = -random.uniform(0, 5, (5, beam_size)).astype("float32")
    found = find(logits, totals, count)
    expected = sort_everything(logits, totals, count)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[2], expected[2])


def test_of_equal_tokens_the_lower_ids_come_first():
    logits, totals = np.zeros((1, 2, 1000)), np.zeros((1, 2), "float32")
    logits[0, 1, [990, 500, 20]] = 5
    _, tokens, parents = find(logits, totals, 5)
    # The second hypothesis' favourites make everything else of it less probable.
    assert tokens.tolist() == [[20, 500, 990, 3, 4]]
    assert parents.tolist() == [[1, 1, 1, 0, 0]]


@pytest.mark.parametrize("suppressed", [(), (0, 1, 2), (0, 999), (20, 500)])
def test_of_equal_tokens_greedy_search_takes_the_lowest_id_that_may_be(suppressed):
    special = SPECIAL._replace(suppressed=suppressed)
    logits = np.zeros((3, 1, 1000))
    logits[0, 0, [20, 500, 990]] = 5
    logits[1, 0, [0, 999]] = 5
    totals = np.zeros((3, 1), "float32")
    _, tokens, _ = find(logits, totals, 1, special=special)
    _, expected, _ = sort_everything(logits, totals, 1, special)
    np.testing.assert_array_equal(tokens, expected)


@pytest.mark.parametrize(("beam_size", "count"), [(1, 1), (3, 6)])
def test_suppressed_ids_beyond_the_vocabulary_change_nothing(beam_size, count):
    logits = np.random.default_rng(2).normal(size=(2, beam_size, 1000))
    totals = np.zeros((2, beam_size), "float32")
    beyond = SPECIAL._replace(suppressed=(*SPECIAL.suppressed, 1000, 10_000))
    found, expected = (find(logits, totals, count, special=each) for each in (beyond, SPECIAL))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("vocabulary_size", [7, 1000])
@pytest.mark.parametrize(("beam_size", "count"), [(1, 1), (3, 6)])
def test_excluded_tokens_are_no_candidates(vocabulary_size, beam_size, count):
    logits = np.random.default_rng(1).normal(size=(8, beam_size, vocabulary_size))
    totals = np.zeros((8, beam_size), "float32")
    excluded = np.argsort(-logits, axis=-1)[..., :2].astype("int32")  # The two best of each,
    excluded[0] = -1  # but of the first none, and of the second one.
    excluded[1, :, 0] = -1
    found = find_candidates(
        tf.constant(logits.reshape(-1, vocabulary_size), tf.float32),
        tf.constant(totals),
        count,
        SPECIAL,
        excluded=tf.constant(excluded.reshape(-1, 2)),
    )
    scores = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    for chosen in np.moveaxis(excluded, 2, 0):
        taken = (np.arange(vocabulary_size) == chosen[..., None]) | np.isin(
            np.arange(vocabulary_size), SPECIAL.suppressed
        )
        scores = np.where(taken, -np.inf, scores)
    order = np.argsort(-scores.reshape(8, -1), axis=1)[:, :count]
    possible = np.take_along_axis(scores.reshape(8, -1), order, axis=1) > -np.inf
    np.testing.assert_array_equal(
        np.where(possible, found.tokens, -1), np.where(possible, order % vocabulary_size, -1)
    )
    np.testing.assert_array_equal(found.totals == -1e9, ~possible)


def test_at_the_limit_only_the_end_is_left_at_its_own_price():
    logits = np.random.default_rng(0).normal(size=(2, 3, 500))
    logits[..., SPECIAL.end] = -40
    totals = np.array([[-3, -1, -2], [-1e9, -1, -1e9]], "float32")
    found, tokens, parents = find(logits, totals, 6, at_limit=True)
    norms = np.log(np.exp(logits).sum(axis=-1))
    expected = totals + logits[..., SPECIAL.end] - norms
    np.testing.assert_allclose(found[0, :3], np.sort(expected[0])[::-1], rtol=1e-5)
    assert parents[0, :3].tolist() == np.argsort(-expected[0]).tolist()
    assert (tokens == SPECIAL.end).all()
    assert (found[0, 3:] == -1e9).all()
    assert parents[1, 0] == 1


def test_totals_stay_exact_where_the_best_token_is_certain():
    logits = np.full((1, 1, 300), -80.0)
    logits[0, 0, 7] = 80
    found, tokens, _ = find(logits, np.zeros((1, 1), "float32"), 1)
    assert tokens.tolist() == [[7]]
    assert found.tolist() == [[0.0]]
