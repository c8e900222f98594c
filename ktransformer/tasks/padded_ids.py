"""Padded ids in graphs."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ktransformer.decoding import Hypotheses
from ktransformer.text import SpecialIds, Tokenizer


def lengths_of(ids: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Counts the tokens of padded ids: `[B, S] -> [B]`."""
    return tf.reduce_sum(tf.cast(ids != pad_id, tf.int32), axis=1)


def cut_ids(ids: tf.Tensor, limit: int, special: SpecialIds) -> tf.Tensor:
    """Cuts ids `[B, S]` to `limit` tokens, the last of them being the end token."""
    last = tf.where(ids[:, limit - 1 : limit] == special.pad, special.pad, special.end)
    return tf.concat([ids[:, : limit - 1], last], axis=1)


def end_empty(source: tf.Tensor, best: Hypotheses, special: SpecialIds) -> Hypotheses:
    """Replaces the hypotheses of sources without a token by the target's end token alone."""
    empty = tf.expand_dims(lengths_of(source, special.pad) <= 1, 1)  # [B, 1]
    at_start = tf.range(tf.shape(best.ids)[2]) == 0  # [T]
    nothing = tf.where(at_start, special.end, special.pad)  # [T]
    return Hypotheses(
        ids=tf.where(tf.expand_dims(empty, 2), nothing, best.ids),
        scores=tf.where(empty, 0.0, best.scores),
        lengths=tf.where(empty, 1, best.lengths),
        log_probabilities=tf.where(empty, 0.0, best.log_probabilities),
    )


def spread_ids(tokenizer: Tokenizer, count: int) -> np.ndarray:
    """Returns ordinary ids from all over the vocabulary, ascending: int32 `[count]`."""
    ordinary = tokenizer.ordinary_ids
    return ordinary[np.linspace(0, len(ordinary) - 1, count).astype(np.int32)]


def probe_ids(tokenizer: Tokenizer, lengths: Sequence[int], width: int) -> tf.Tensor:
    """Makes ids `[B, width]` to try a graph on, ended and padded.

    Args:
        tokenizer: Their tokenizer.
        lengths: The tokens of each row without the end token, fewer than `width`.
        width: The number of columns.
    """
    special, pieces = tokenizer.special_ids, spread_ids(tokenizer, max(lengths))
    ids = np.full((len(lengths), width), special.pad, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length], row[length] = pieces[:length], special.end
    return tf.constant(ids)
