"""Searches in graphs, and the texts and scores that they give, for every task that writes text."""

from collections.abc import Sequence

import tensorflow as tf

from ktransformer import decoding
from ktransformer.decoding import Hypotheses, Rule, SearchModel, beam_search, greedy_search
from ktransformer.losses import smoothed_cross_entropy, token_weights
from ktransformer.text import SpecialIds, Tokenizer


def search_ids(special: SpecialIds) -> decoding.SpecialIds:
    """Returns the special ids of a search: only ordinary tokens and the end token are chosen."""
    suppressed = (special.pad, special.start, special.unknown)
    return decoding.SpecialIds(special.start, special.end, special.pad, suppressed)


def search_texts(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    beam_size: int,
    n_best: int,
    rules: Sequence[Rule],
) -> Hypotheses:
    """Finds the `n_best` sequences: greedily if `beam_size` is 1, else by beam search."""
    ids = search_ids(special)
    if beam_size == 1:
        return greedy_search(model, limits, ids, rules=rules)
    return beam_search(model, limits, ids, beam_size=beam_size, n_best=n_best, rules=rules)


def decode_n_best(tokenizer: Tokenizer, ids: tf.Tensor) -> tf.Tensor:
    """Turns ids `[B, K, T]` into texts `[B, K]`."""
    shape = tf.shape(ids)
    return tf.reshape(tokenizer.decode(tf.reshape(ids, [-1, shape[2]])), shape[:2])


def first_best(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the outputs of an n-best search with the best `text` and `score` alone."""
    return {**outputs, "text": outputs["text"][:, 0], "score": outputs["score"][:, 0]}


def start_labels(labels: tf.Tensor, start: int) -> tf.Tensor:
    """Returns the inputs that predict labels `[B, T]`: the start token and all but the last."""
    return tf.concat([tf.fill([tf.shape(labels)[0], 1], start), labels[:, :-1]], axis=1)


def score_labels(labels: tf.Tensor, logits: tf.Tensor, pad: int) -> dict[str, tf.Tensor]:
    """Adds up the log-probabilities of labels `[B, T]` under logits `[B, T, V]`.

    Returns:
        `log_probability`, float32 `[B]`, and `tokens`, int32 `[B]`, the number of labels that are
        not padding.
    """
    weights = token_weights(labels, pad)
    losses = smoothed_cross_entropy(labels, logits)
    return {
        "log_probability": -tf.reduce_sum(losses * weights, axis=1),
        "tokens": tf.cast(tf.reduce_sum(weights, axis=1), tf.int32),
    }
