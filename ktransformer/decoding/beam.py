"""Beam search."""

from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.hypotheses import (
    IMPOSSIBLE,
    Hypotheses,
    SpecialIds,
    StepFunction,
    penalty,
    suppress,
    write_column,
)


class _Beams(NamedTuple):
    """The state of the search. Letters: B sentences, K places, T tokens."""

    index: tf.Tensor  # Position that the next step fills.
    open_ids: tf.Tensor  # [B, K, T]
    open_totals: tf.Tensor  # [B, K], log-probabilities, best first.
    ended_ids: tf.Tensor  # [B, K, T], frozen; only a better ended hypothesis replaces one.
    ended_scores: tf.Tensor  # [B, K], best first.
    ended_lengths: tf.Tensor  # [B, K]
    ended_count: tf.Tensor  # [B], how many have ever ended.
    done: tf.Tensor  # [B]
    state: Any  # The step function's, first axis B * K.


def beam_search(
    step: StepFunction,
    state: Any,
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
        step: Predicts the next token; N is B * K, a sentence's hypotheses next to each other.
        state: What `step` starts from, first axis B * K; reordered with the hypotheses.
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

    def body(*flat: Any) -> _Beams:
        beams = _Beams(*flat)
        totals, tokens, parents, state = _expand(step, beams, limits, special)
        return _advance(beams, totals, tokens, parents, state)

    def _advance(
        beams: _Beams, totals: tf.Tensor, tokens: tf.Tensor, parents: tf.Tensor, state: Any
    ) -> _Beams:
        length = beams.index + 1
        candidates = tf.gather(beams.open_ids, parents, batch_dims=1)  # [B, 2K, T]
        candidates = write_column(candidates, beams.index, tokens)
        is_end = tokens == special.end
        ends = is_end & (totals > IMPOSSIBLE / 2) & ~beams.done[:, None]
        ends = ends & (tf.range(2 * beam_size) < beam_size)  # [B, 2K]
        scores = tf.where(ends, totals / penalty(length, length_penalty), IMPOSSIBLE)
        ended_scores, best = tf.math.top_k(
            tf.concat([beams.ended_scores, scores], axis=1), beam_size
        )
        ended_ids = tf.concat([beams.ended_ids, candidates], axis=1)  # [B, 3K, T]
        new_lengths = tf.zeros_like(tokens) + length
        ended_lengths = tf.concat([beams.ended_lengths, new_lengths], axis=1)
        ended_count = beams.ended_count + tf.reduce_sum(tf.cast(ends, tf.int32), axis=1)

        open_totals, chosen = tf.math.top_k(tf.where(is_end, IMPOSSIBLE, totals), beam_size)
        rows = tf.range(tf.shape(totals)[0])[:, None] * beam_size
        rows = tf.reshape(rows + tf.gather(parents, chosen, batch_dims=1), [-1])  # [B * K]
        reachable = open_totals[:, 0] / penalty(limits, length_penalty)
        return _Beams(
            index=length,
            open_ids=tf.gather(candidates, chosen, batch_dims=1),
            open_totals=open_totals,
            ended_ids=tf.gather(ended_ids, best, batch_dims=1),
            ended_scores=ended_scores,
            ended_lengths=tf.gather(ended_lengths, best, batch_dims=1),
            ended_count=ended_count,
            done=beams.done
            | (ended_count >= beam_size)
            | (ended_scores[:, n_best - 1] >= reachable)
            | (length >= limits),
            state=tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), state),
        )

    def goes_on(*flat: Any) -> tf.Tensor:
        return ~tf.reduce_all(_Beams(*flat).done)

    start = _start(state, limits, special, beam_size)
    beams = _Beams(*tf.while_loop(goes_on, body, start))
    exists = beams.ended_scores > IMPOSSIBLE / 2
    ids = tf.where(exists[..., None], beams.ended_ids, special.pad)
    lengths = tf.where(exists, beams.ended_lengths, 0)
    return Hypotheses(ids[:, :n_best], beams.ended_scores[:, :n_best], lengths[:, :n_best])


def _start(state: Any, limits: tf.Tensor, special: SpecialIds, beam_size: int) -> _Beams:
    rows = tf.shape(limits)[0]
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.
    nothing = tf.fill([rows, beam_size, longest], special.pad)
    # All places hold the empty hypothesis; all but the first are dead, or it would win K times.
    first = tf.one_hot(tf.zeros([rows], tf.int32), beam_size, on_value=0.0, off_value=IMPOSSIBLE)
    return _Beams(
        index=tf.constant(0),
        open_ids=nothing,
        open_totals=first,
        ended_ids=nothing,
        ended_scores=tf.fill([rows, beam_size], IMPOSSIBLE),
        ended_lengths=tf.zeros([rows, beam_size], tf.int32),
        ended_count=tf.zeros([rows], tf.int32),
        done=tf.zeros([rows], tf.bool),
        state=state,
    )


def _expand(
    step: StepFunction, beams: _Beams, limits: tf.Tensor, special: SpecialIds
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, Any]:
    """Finds the 2K best continuations of each sentence's open hypotheses.

    At most K of 2K can be end tokens, one a parent, so that at least K stay open.

    Returns:
        Log-probabilities, tokens and parents (0 to K - 1), `[B, 2K]` each, best first, and the
        step function's next state.
    """
    beam_size = beams.open_totals.shape[1]
    previous = tf.maximum(beams.index - 1, 0)
    newest = tf.gather(beams.open_ids, previous, axis=2)  # [B, K]
    newest = tf.where(beams.index == 0, special.start, newest)
    logits, state = step(tf.reshape(newest, [-1]), beams.index, beams.state)  # [B * K, V]
    logits = tf.cast(logits, tf.float32)
    norms = tf.reduce_logsumexp(logits, axis=-1, keepdims=True)  # [B * K, 1]

    vocabulary_size = logits.shape[-1]
    width = min(2 * beam_size, vocabulary_size)
    gained, tokens = tf.math.top_k(suppress(logits, special), width)
    gained = gained - norms  # [B * K, width]
    # At the limit nothing but the end token, which may not be among the best.
    end_only = tf.one_hot(0, width, on_value=0.0, off_value=IMPOSSIBLE)
    end_only = end_only + (logits[:, special.end, None] - norms)
    last = tf.repeat(beams.index >= limits - 1, beam_size)[:, None]  # [B * K, 1]
    gained = tf.where(last, end_only, gained)
    tokens = tf.where(last, special.end, tokens)

    gained = tf.reshape(gained, [-1, beam_size, width])
    totals = tf.maximum(beams.open_totals[:, :, None] + gained, IMPOSSIBLE)
    totals = tf.reshape(totals, [-1, beam_size * width])
    tokens = tf.reshape(tokens, [-1, beam_size * width])
    totals, places = tf.math.top_k(totals, 2 * beam_size)
    return totals, tf.gather(tokens, places, batch_dims=1), places // width, state
