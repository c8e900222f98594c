"""The most probable next tokens, without sorting the whole vocabulary.

A vocabulary is cut into blocks. The n best tokens lie in the n blocks with the greatest maxima, so
that one pass of `max` over the logits leaves a few blocks to sort.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.decoding.hypotheses import IMPOSSIBLE, SpecialIds

_BLOCK_SIZES = range(64, 257)


class Candidates(NamedTuple):
    """The C best continuations of each sentence's hypotheses, best first.

    Attributes:
        totals: Float32 `[B, C]`, log-probability with the new token.
        tokens: Int32 `[B, C]`.
        parents: Int32 `[B, C]`, which hypothesis each one continues.
    """

    totals: tf.Tensor
    tokens: tf.Tensor
    parents: tf.Tensor


class _Blocks(NamedTuple):
    """Logits `[B * K, V]` cut into blocks; of equal logits a lower id comes first."""

    values: tf.Tensor  # [B, K * blocks, size]
    maxima: tf.Tensor  # [B, K * blocks]


def find_candidates(
    logits: tf.Tensor,
    totals: tf.Tensor,
    count: int,
    special: SpecialIds,
    *,
    at_limit: tf.Tensor | None = None,
    norms: tf.Tensor | None = None,
    excluded: tf.Tensor | None = None,
) -> Candidates:
    """Finds the `count` best continuations of each sentence.

    Args:
        logits: Float32 `[B * K, V]`.
        totals: Float32 `[B, K]`, log-probabilities of the hypotheses.
        count: C.
        special: Its `suppressed` ids are no candidates.
        at_limit: Boolean `[B]`, True where the length limit forces the end token, even if it is
            not among the best; None for nowhere.
        norms: Float32 `[B * K]`, log-probabilities are logits minus these; None for the
            logarithms of the sums of exponentials.
        excluded: Int32 `[B * K, E]`, further ids that are no candidates of a hypothesis, -1 for
            none; None for E = 0.

    Returns:
        `Candidates`; an impossible one has a total of `IMPOSSIBLE`.
    """
    beam_size = totals.shape[1]
    blocks = _cut(logits, beam_size)
    if norms is None:
        number = blocks.maxima.shape[1] // beam_size
        maxima = tf.reduce_max(tf.reshape(blocks.maxima, [-1, beam_size, number]), axis=2)
        bases = totals - _norms(logits, maxima)  # [B, K]
    else:
        bases = totals - tf.reshape(norms, [-1, beam_size])
    if excluded is not None:
        excluded = tf.reshape(excluded, [-1, beam_size, excluded.shape[1]])
    alone = beam_size == count == 1
    if alone:
        found = _best_one(blocks, bases, special, excluded)
    else:
        found = _best(blocks, bases, count, special, excluded)
    if at_limit is None:
        return found._replace(totals=tf.maximum(found.totals, IMPOSSIBLE))
    ends = bases + tf.reshape(logits[:, special.end], [-1, beam_size])  # [B, K]
    end_totals, parents = ends, found.parents
    if not alone:
        ends = tf.pad(ends, [[0, 0], [0, count]], constant_values=IMPOSSIBLE)
        end_totals, parents = tf.math.top_k(ends, count)
    at_limit = tf.expand_dims(at_limit, 1)
    return Candidates(
        totals=tf.maximum(tf.where(at_limit, end_totals, found.totals), IMPOSSIBLE),
        tokens=tf.where(at_limit, special.end, found.tokens),
        parents=tf.where(at_limit, tf.minimum(parents, beam_size - 1), found.parents),
    )


def _best_one(
    blocks: _Blocks, bases: tf.Tensor, special: SpecialIds, excluded: tf.Tensor | None
) -> Candidates:
    """Finds the best token of each sentence's only hypothesis: `_best`, in fewer operations."""
    number, size = blocks.values.shape[1:]
    costs = _suppression_costs(special, number, size)
    most_excluded = 0 if excluded is None else excluded.shape[2]
    keep = min(1 + int(costs.any(axis=1).sum()) + most_excluded, number)
    more = min(1 + most_excluded, keep * size)
    if keep == number:
        values = tf.reshape(blocks.values, [-1, number * size]) + costs.reshape(-1)
        found, tokens = tf.math.top_k(values, more)  # [B, more]
    else:
        _, kept = tf.math.top_k(blocks.maxima, keep)  # [B, keep]
        kept = -tf.math.top_k(-kept, keep).values  # In order, so that ties go to the lower id.
        values = tf.gather(blocks.values, kept, batch_dims=1) + tf.gather(costs, kept)
        found, places = tf.math.top_k(tf.reshape(values, [-1, keep * size]), more)
        block = places // size
        tokens = (tf.gather(kept, block, batch_dims=1) - block) * size + places
    if excluded is not None:
        hidden = tf.reduce_any(tf.expand_dims(tokens, 2) == excluded, axis=2)
        found, best = tf.math.top_k(tf.where(hidden, IMPOSSIBLE, found), 1)
        tokens = tf.gather(tokens, best, batch_dims=1)
    return Candidates(bases + found, tokens, tf.zeros_like(tokens))


def _best(
    blocks: _Blocks,
    bases: tf.Tensor,
    count: int,
    special: SpecialIds,
    excluded: tf.Tensor | None,
) -> Candidates:
    """Finds the best of all tokens; `bases` `[B, K]` is what is added to a hypothesis' logits."""
    beam_size, every, size = bases.shape[1], blocks.maxima.shape[1], blocks.values.shape[2]
    number = every // beam_size
    costs = _suppression_costs(special, number, size)
    most_excluded = 0 if excluded is None else excluded.shape[2]
    with_hidden = int(costs.any(axis=1).sum()) + most_excluded
    keep = min(count + beam_size * with_hidden, every)
    more = min(count + beam_size * most_excluded, keep * size)
    if keep == every:
        values = tf.reshape(blocks.values, [-1, beam_size, number * size])
        values = values + tf.expand_dims(bases, 2) + costs.reshape(-1)
        found, places = tf.math.top_k(tf.reshape(values, [-1, every * size]), more)  # [B, more]
        parents, tokens = places // (number * size), places % (number * size)
    else:
        maxima = tf.reshape(blocks.maxima, [-1, beam_size, number]) + tf.expand_dims(bases, 2)
        _, best = tf.math.top_k(tf.reshape(maxima, [-1, every]), keep)  # [B, keep]
        best = -tf.math.top_k(-best, keep).values  # In order, so that ties go to the lower id.
        parents, block = best // number, best % number
        values = tf.gather(blocks.values, best, batch_dims=1)  # [B, keep, size]
        values = values + tf.expand_dims(tf.gather(bases, parents, batch_dims=1), 2)
        values = values + tf.gather(costs, block)
        found, places = tf.math.top_k(tf.reshape(values, [-1, keep * size]), more)
        tokens = tf.gather(block, places // size, batch_dims=1) * size + places % size
        parents = tf.gather(parents, places // size, batch_dims=1)
    if excluded is not None:
        own = tf.gather(excluded, parents, batch_dims=1)  # [B, more, E]
        hidden = tf.reduce_any(tf.expand_dims(tokens, 2) == own, axis=2)
        found, order = tf.math.top_k(tf.where(hidden, IMPOSSIBLE, found), count)
        tokens = tf.gather(tokens, order, batch_dims=1)
        parents = tf.gather(parents, order, batch_dims=1)
    return Candidates(found, tokens, parents)


def _suppression_costs(special: SpecialIds, number: int, size: int) -> np.ndarray:
    """Returns what is added to a hypothesis' blocks: `IMPOSSIBLE` at suppressed ids, else 0."""
    costs = np.zeros([number, size], np.float32)
    known = [i for i in special.suppressed if i < costs.size]  # A rule may have ids beyond.
    costs.flat[known] = IMPOSSIBLE
    return costs


def _cut(logits: tf.Tensor, beam_size: int) -> _Blocks:
    size = _block_size(logits.shape[-1])
    excess = -logits.shape[-1] % size
    if excess:
        logits = tf.pad(logits, [[0, 0], [0, excess]], constant_values=logits.dtype.min)
    every = beam_size * (logits.shape[-1] // size)
    values = tf.reshape(logits, [-1, every, size])
    return _Blocks(values, tf.reduce_max(values, axis=2))


def _block_size(vocabulary_size: int) -> int:
    """Chooses what divides the vocabulary, near its square root; else pads it."""
    root = math.sqrt(vocabulary_size)
    if vocabulary_size < 2 * min(_BLOCK_SIZES):
        return vocabulary_size
    return min(
        _BLOCK_SIZES, key=lambda size: (vocabulary_size % size != 0, abs(math.log(size / root)))
    )


def _norms(logits: tf.Tensor, maxima: tf.Tensor) -> tf.Tensor:
    """Computes the logarithm of each row's sum of exponentials: `[B * K, V] -> [B, K]`.

    `maxima` `[B, K]` are the rows' greatest logits, whose probability is 1 / sum(exp(logits -
    maximum)). `softmax` is one operation, which reads a row while it is in the processor's cache;
    a sum of exponentials would be three passes over all rows.
    """
    best = tf.reduce_max(tf.nn.softmax(logits), axis=1)
    return maxima - tf.math.log(tf.reshape(best, [-1, maxima.shape[1]]))
