"""Searches that follow one hypothesis a sentence: greedy, and sampling."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.candidates import find_candidates
from ktransformer.decoding.chunks import search_in_chunks
from ktransformer.decoding.hypotheses import (
    IMPOSSIBLE,
    Hypotheses,
    SpecialIds,
    number_positions,
    penalty,
    suppress,
    write_token,
)
from ktransformer.decoding.sampling_options import check_sampling, to_seed
from ktransformer.decoding.search_model import SearchModel


class _Texts(NamedTuple):
    """What is known of the sentences. Letters: B sentences, T tokens."""

    limits: tf.Tensor  # [B]
    positions: tf.Tensor  # [B, T]: 0, 1, ...
    newest: tf.Tensor  # [B]
    ids: tf.Tensor  # [B, T]
    totals: tf.Tensor  # [B], log-probabilities.
    lengths: tf.Tensor  # [B]
    done: tf.Tensor  # [B]


# Takes the position, what is known of the sentences and their logits [B, V]; returns the chosen
# tokens [B] and the totals with them.
Choice = Callable[[tf.Tensor, _Texts, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def greedy_search(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    length_penalty: float = 1.0,
) -> Hypotheses:
    """Takes the most probable token at each step.

    A hypothesis that reaches its limit is given the end token there, at the price that the model
    asks for it, so that a score is always the model's own for the whole sequence.

    Args:
        model: Predicts the next token.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        length_penalty: Exponent of the length that a log-probability is divided by; only the
            score depends on it.

    Returns:
        `Hypotheses` with K = 1.
    """

    def choose(index: tf.Tensor, texts: _Texts, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        at_limit = index >= texts.limits - 1
        best = find_candidates(logits, texts.totals[:, None], at_limit, 1, special)
        return best.tokens[:, 0], best.totals[:, 0]

    return _follow(model, limits, special, choose, length_penalty)


def sample(
    model: SearchModel,
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
        model: Predicts the next token.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        seed: The same seed gives the same sequences; any integer, of which 64 bits count, or a
            scalar tensor.
        temperature: What the logits are divided by, above 0 and finite; below 1 sharpens.
        top_k: Draw from the k most probable tokens only, and those equal to the k-th; 0 for all.
        top_p: Draw from the fewest most probable tokens that together reach this probability,
            in (0, 1].
        length_penalty: See `greedy_search`. Scores are the model's, whatever the temperature.

    Returns:
        `Hypotheses` with K = 1.

    Raises:
        InputError: An argument is no number or outside its range.

    Reference: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p, "nucleus").
    """
    temperature, top_k, top_p, length_penalty = check_sampling(
        temperature, top_k, top_p, length_penalty
    )
    wide_seed = to_seed(seed)

    def choose(index: tf.Tensor, texts: _Texts, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # The best logit becomes 0: no temperature can push it down to IMPOSSIBLE.
        allowed = suppress(logits, special)
        allowed = allowed - tf.reduce_max(allowed, axis=-1, keepdims=True)
        allowed = suppress(allowed / temperature, special)  # A high one would let all in again.
        if top_k:
            kth = tf.math.top_k(allowed, min(top_k, logits.shape[-1])).values[:, -1:]
            allowed = tf.where(allowed < kth, IMPOSSIBLE, allowed)
        if top_p < 1:
            allowed = _keep_nucleus(allowed, top_p)
        # Drawing by Gumbel noise: the argmax of logits + noise follows the softmax.
        uniform = tf.random.stateless_uniform(
            tf.shape(logits), tf.stack([wide_seed, tf.cast(index, tf.int64)]), minval=1e-20
        )
        noise = -tf.math.log(-tf.math.log(uniform))
        chosen = tf.argmax(allowed + noise, axis=-1, output_type=tf.int32)
        chosen = tf.where(index >= texts.limits - 1, special.end, chosen)
        gained = tf.gather(logits, chosen, batch_dims=1) - tf.reduce_logsumexp(logits, axis=-1)
        return chosen, texts.totals + gained

    return _follow(model, limits, special, choose, length_penalty)


def _keep_nucleus(logits: tf.Tensor, top_p: float) -> tf.Tensor:
    """Rules out what lies behind the fewest tokens that reach `top_p`: `[N, V] -> [N, V]`."""
    descending = tf.sort(logits, axis=-1, direction="DESCENDING")
    before = tf.cumsum(tf.nn.softmax(descending), axis=-1, exclusive=True)
    # The first token is always in: nothing comes before it.
    inside = tf.where(before < top_p, descending, descending[:, :1])
    return tf.where(logits < tf.reduce_min(inside, axis=-1, keepdims=True), IMPOSSIBLE, logits)


def _follow(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    choose: Choice,
    length_penalty: float,
) -> Hypotheses:
    def advance(index: tf.Tensor, texts: _Texts, state: Any) -> tuple[_Texts, Any]:
        logits, state = model.step(texts.newest, index, state, None)
        chosen, totals = choose(index, texts, tf.cast(logits, tf.float32))
        chosen = tf.where(texts.done, special.pad, chosen)
        return _Texts(
            limits=texts.limits,
            positions=texts.positions,
            newest=chosen,
            ids=write_token(texts.ids, texts.positions, index, chosen),
            totals=tf.where(texts.done, texts.totals, totals),
            lengths=texts.lengths + tf.where(texts.done, 0, 1),
            done=texts.done | (chosen == special.end),
        ), state

    texts = search_in_chunks(model, 1, _start(limits, special), advance)
    scores = texts.totals / penalty(tf.maximum(texts.lengths, 1), length_penalty)
    return Hypotheses(*(tf.expand_dims(found, 1) for found in (texts.ids, scores, texts.lengths)))


def _start(limits: tf.Tensor, special: SpecialIds) -> _Texts:
    rows = tf.shape(limits)[0]
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.
    return _Texts(
        limits=limits,
        positions=number_positions(rows, longest),
        newest=tf.fill([rows], special.start),
        ids=tf.fill([rows, longest], special.pad),
        totals=tf.zeros([rows]),
        lengths=tf.zeros([rows], tf.int32),
        done=tf.zeros([rows], tf.bool),
    )
