"""Padded ids in graphs."""

import tensorflow as tf

from ktransformer.decoding import Hypotheses
from ktransformer.text import END_ID, PAD_ID


def lengths_of(ids: tf.Tensor) -> tf.Tensor:
    """Counts the tokens of padded ids: `[B, S] -> [B]`."""
    return tf.reduce_sum(tf.cast(ids != PAD_ID, tf.int32), axis=1)


def cut_ids(ids: tf.Tensor, limit: int) -> tf.Tensor:
    """Cuts ids `[B, S]` to `limit` tokens, the last of them being the end token."""
    last = tf.where(ids[:, limit - 1 : limit] == PAD_ID, PAD_ID, END_ID)
    return tf.concat([ids[:, : limit - 1], last], axis=1)


def end_empty(source: tf.Tensor, best: Hypotheses) -> Hypotheses:
    """Replaces the hypotheses of sources without a token by the end token alone."""
    empty = tf.expand_dims(lengths_of(source) <= 1, 1)  # [B, 1]
    at_start = tf.range(tf.shape(best.ids)[2]) == 0  # [T]
    return Hypotheses(
        ids=tf.where(tf.expand_dims(empty, 2), tf.where(at_start, END_ID, PAD_ID), best.ids),
        scores=tf.where(empty, 0.0, best.scores),
        lengths=tf.where(empty, 1, best.lengths),
        log_probabilities=tf.where(empty, 0.0, best.log_probabilities),
    )
