"""Beam search."""

from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.candidates import Candidates, find_candidates
from ktransformer.decoding.chunks import search_in_chunks
from ktransformer.decoding.hypotheses import (
    IMPOSSIBLE,
    Hypotheses,
    SpecialIds,
    number_positions,
    penalty,
    write_token,
)
from ktransformer.decoding.search_model import SearchModel


class _Beams(NamedTuple):
    """What is known of the sentences. Letters: B sentences, K places, T tokens."""

    limits: tf.Tensor  # [B]
    positions: tf.Tensor  # [B, T]: 0, 1, ...
    open_ids: tf.Tensor  # [B, K, T]
    open_totals: tf.Tensor  # [B, K], log-probabilities, best first.
    parents: tf.Tensor  # [B, K], which place of the step before each open one continues.
    ended_ids: tf.Tensor  # [B, K, T], frozen; only a better ended hypothesis replaces one.
    ended_scores: tf.Tensor  # [B, K], best first.
    ended_lengths: tf.Tensor  # [B, K]
    ended_count: tf.Tensor  # [B], how many have ever ended.
    done: tf.Tensor  # [B]


def beam_search(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    beam_size: int,
    n_best: int = 1,
    length_penalty: float = 1.0,
) -> Hypotheses:
    """Keeps the `beam_size` best open hypotheses at each step.

    Open hypotheses are all of one length and are ranked by log-probability. One that ends among
    the best `beam_size` is set aside, frozen, and ranked by its score, log-probability /
    length ** length_penalty. A sentence is done when `beam_size` hypotheses have ended (so that
    beam 1 is greedy search), or as soon as no open one can still reach the `n_best` ended ones:
    the log-probability of an open one only falls, and its length is bounded by the limit. At the
    limit only the end token is left, at the price that the model asks for it.

    Args:
        model: Predicts the next token.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        beam_size: K, the places of the beam.
        n_best: How many hypotheses to return, at most `beam_size`.
        length_penalty: Exponent of the length; 0 ranks by log-probability, 1 by its mean.

    Returns:
        `Hypotheses` with K = `n_best`.

    Raises:
        ValueError: `beam_size` or `n_best` is below 1, `n_best` is above `beam_size`, or
            `length_penalty` is below 0.

    Reference: Wu et al. 2016, section 7 (length normalisation; here with `length ** penalty`).
    """
    if not 1 <= n_best <= beam_size:
        raise ValueError(
            f"n_best must be from 1 to beam_size; got n_best={n_best}, beam_size={beam_size}."
        )
    if length_penalty < 0:
        raise ValueError(f"length_penalty must be at least 0; got {length_penalty}.")

    def advance(index: tf.Tensor, beams: _Beams, state: Any) -> tuple[_Beams, Any]:
        candidates, state = _expand(model, index, beams, state, special)
        return _select(index, beams, candidates), state

    def _select(index: tf.Tensor, beams: _Beams, found: Candidates) -> _Beams:
        length = index + 1
        ids = tf.gather(beams.open_ids, found.parents, batch_dims=1)  # [B, 2K, T]
        ids = write_token(ids, tf.expand_dims(beams.positions, 1), index, found.tokens)
        is_end = found.tokens == special.end
        ends = is_end & (found.totals > IMPOSSIBLE / 2) & ~beams.done[:, None]
        ends = ends & (tf.range(2 * beam_size) < beam_size)  # [B, 2K]
        scores = tf.where(ends, found.totals / penalty(length, length_penalty), IMPOSSIBLE)
        ended_scores, best = tf.math.top_k(
            tf.concat([beams.ended_scores, scores], axis=1), beam_size
        )
        ended_ids = tf.concat([beams.ended_ids, ids], axis=1)  # [B, 3K, T]
        new_lengths = tf.zeros_like(found.tokens) + length
        ended_lengths = tf.concat([beams.ended_lengths, new_lengths], axis=1)
        ended_count = beams.ended_count + tf.reduce_sum(tf.cast(ends, tf.int32), axis=1)

        open_totals, chosen = tf.math.top_k(tf.where(is_end, IMPOSSIBLE, found.totals), beam_size)
        reachable = open_totals[:, 0] / penalty(beams.limits, length_penalty)
        return _Beams(
            limits=beams.limits,
            positions=beams.positions,
            open_ids=tf.gather(ids, chosen, batch_dims=1),
            open_totals=open_totals,
            parents=tf.gather(found.parents, chosen, batch_dims=1),
            ended_ids=tf.gather(ended_ids, best, batch_dims=1),
            ended_scores=ended_scores,
            ended_lengths=tf.gather(ended_lengths, best, batch_dims=1),
            ended_count=ended_count,
            done=beams.done
            | (ended_count >= beam_size)
            | (ended_scores[:, n_best - 1] >= reachable)
            | (length >= beams.limits),
        )

    beams = search_in_chunks(model, beam_size, _start(limits, special, beam_size), advance)
    exists = beams.ended_scores > IMPOSSIBLE / 2
    ids = tf.where(exists[..., None], beams.ended_ids, special.pad)
    lengths = tf.where(exists, beams.ended_lengths, 0)
    return Hypotheses(ids[:, :n_best], beams.ended_scores[:, :n_best], lengths[:, :n_best])


def _start(limits: tf.Tensor, special: SpecialIds, beam_size: int) -> _Beams:
    rows = tf.shape(limits)[0]
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.
    nothing = tf.fill([rows, beam_size, longest], special.pad)
    # All places hold the empty hypothesis; all but the first are dead, or it would win K times.
    first = tf.one_hot(tf.zeros([rows], tf.int32), beam_size, on_value=0.0, off_value=IMPOSSIBLE)
    return _Beams(
        limits=limits,
        positions=number_positions(rows, longest),
        open_ids=nothing,
        open_totals=first,
        parents=tf.zeros([rows, beam_size], tf.int32) + tf.range(beam_size),
        ended_ids=nothing,
        ended_scores=tf.fill([rows, beam_size], IMPOSSIBLE),
        ended_lengths=tf.zeros([rows, beam_size], tf.int32),
        ended_count=tf.zeros([rows], tf.int32),
        done=tf.zeros([rows], tf.bool),
    )


def _expand(
    model: SearchModel, index: tf.Tensor, beams: _Beams, state: Any, special: SpecialIds
) -> tuple[Candidates, Any]:
    """Finds the 2K best continuations of each sentence's open hypotheses.

    At most K of 2K can be end tokens, one a parent, so that at least K stay open.

    Returns:
        The candidates `[B, 2K]` and the model's next state.
    """
    beam_size = beams.open_totals.shape[1]
    newest = tf.gather(beams.open_ids, tf.maximum(index - 1, 0), axis=2)  # [B, K]
    newest = tf.where(index == 0, special.start, newest)
    logits, state = model.step(tf.reshape(newest, [-1]), index, state, beams.parents)
    logits = tf.cast(logits, tf.float32)  # [B * K, V]
    at_limit = index >= beams.limits - 1
    return find_candidates(logits, beams.open_totals, at_limit, 2 * beam_size, special), state
