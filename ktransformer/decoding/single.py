"""Searches that follow one hypothesis a sentence: greedy, and sampling."""

from collections.abc import Callable
from typing import Any

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


def greedy_search(
    step: StepFunction,
    state: Any,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    length_penalty: float = 1.0,
) -> Hypotheses:
    """Takes the most probable token at each step.

    A hypothesis that reaches its limit is given the end token there, at the price that the model
    asks for it, so that a score is always the model's own for the whole sequence.

    Args:
        step: Predicts the next token; N is B.
        state: What `step` starts from.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        length_penalty: Exponent of the length that a log-probability is divided by; only the
            score depends on it.

    Returns:
        `Hypotheses` with K = 1.
    """

    def choose(logits: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        del index
        return tf.argmax(logits, axis=-1, output_type=tf.int32)

    return _follow(step, state, limits, special, choose, length_penalty)


def sample(
    step: StepFunction,
    state: Any,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    seed: int | tf.Tensor = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    length_penalty: float = 1.0,
) -> Hypotheses:
    """Draws each token from the model's distribution, or from the head of it.

    Args:
        step: Predicts the next token; N is B.
        state: What `step` starts from.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        seed: The same seed gives the same sequences; a Python int or a scalar int32.
        temperature: What the logits are divided by, above 0; below 1 sharpens.
        top_k: Draw from the k most probable tokens only, and those equal to the k-th; 0 for all.
        top_p: Draw from the fewest most probable tokens that together reach this probability,
            in (0, 1].
        length_penalty: See `greedy_search`. Scores are the model's, whatever the temperature.

    Returns:
        `Hypotheses` with K = 1.

    Raises:
        ValueError: An argument is outside its range.

    Reference: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p, "nucleus").
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; got temperature={temperature}.")
    if top_k < 0:
        raise ValueError(f"top_k must be at least 0; got top_k={top_k}.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1]; got top_p={top_p}.")

    def choose(logits: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        # The best logit becomes 0: no temperature can push it down to IMPOSSIBLE.
        logits = (logits - tf.reduce_max(logits, axis=-1, keepdims=True)) / temperature
        if top_k:
            kth = tf.math.top_k(logits, min(top_k, logits.shape[-1])).values[:, -1:]
            logits = tf.where(logits < kth, IMPOSSIBLE, logits)
        if top_p < 1:
            logits = _keep_nucleus(logits, top_p)
        # Drawing by Gumbel noise: the argmax of logits + noise follows the softmax.
        uniform = tf.random.stateless_uniform(
            tf.shape(logits), tf.stack([seed, index]), minval=1e-20
        )
        return tf.argmax(logits - tf.math.log(-tf.math.log(uniform)), -1, output_type=tf.int32)

    return _follow(step, state, limits, special, choose, length_penalty)


def _keep_nucleus(logits: tf.Tensor, top_p: float) -> tf.Tensor:
    """Rules out what lies behind the fewest tokens that reach `top_p`: `[N, V] -> [N, V]`."""
    descending = tf.sort(logits, axis=-1, direction="DESCENDING")
    before = tf.cumsum(tf.nn.softmax(descending), axis=-1, exclusive=True)
    # The first token is always in: nothing comes before it.
    inside = tf.where(before < top_p, descending, descending[:, :1])
    return tf.where(logits < tf.reduce_min(inside, axis=-1, keepdims=True), IMPOSSIBLE, logits)


def _follow(
    step: StepFunction,
    state: Any,
    limits: tf.Tensor,
    special: SpecialIds,
    choose: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    length_penalty: float,
) -> Hypotheses:
    rows = tf.shape(limits)[0]
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.

    def body(index, newest, ids, totals, lengths, done, state):  # type: ignore[no-untyped-def]
        logits, state = step(newest, index, state)
        logits = tf.cast(logits, tf.float32)
        chosen = choose(suppress(logits, special), index)
        chosen = tf.where(index >= limits - 1, special.end, chosen)
        gained = tf.gather(logits, chosen, batch_dims=1) - tf.reduce_logsumexp(logits, axis=-1)
        totals = totals + tf.where(done, 0.0, gained)
        lengths = lengths + tf.where(done, 0, 1)
        chosen = tf.where(done, special.pad, chosen)
        ids = write_column(ids, index, chosen)
        return index + 1, chosen, ids, totals, lengths, done | (chosen == special.end), state

    def goes_on(index, newest, ids, totals, lengths, done, state):  # type: ignore[no-untyped-def]
        return (index < longest) & ~tf.reduce_all(done)

    _, _, ids, totals, lengths, _, _ = tf.while_loop(
        goes_on,
        body,
        (
            tf.constant(0),
            tf.fill([rows], special.start),
            tf.fill([rows, longest], special.pad),
            tf.zeros([rows]),
            tf.zeros([rows], tf.int32),
            tf.zeros([rows], tf.bool),
            state,
        ),
    )
    scores = totals / penalty(tf.maximum(lengths, 1), length_penalty)
    return Hypotheses(*(tf.expand_dims(found, 1) for found in (ids, scores, lengths)))
