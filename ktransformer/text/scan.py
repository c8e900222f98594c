"""Looks for characters from places of a text on, in a graph."""

import numpy as np
import tensorflow as tf


def shift(values: tf.Tensor, by: int) -> tf.Tensor:
    """Returns what stands `by` places further: `[N]` -> `[N]`, with zeros beyond the end."""
    zeros = tf.zeros([abs(by)], values.dtype)
    if by >= 0:
        return tf.concat([values, zeros], axis=0)[by:]
    return tf.concat([zeros, values], axis=0)[:by]


def next_true(mask: tf.Tensor) -> tf.Tensor:
    """Returns the place of the first true at or after each place: boolean `[N]` -> int32 `[N]`.

    It is N where there is none.
    """
    places = tf.concat([places_of(mask), tf.shape(mask)], axis=0)
    return tf.gather(places, tf.cumsum(tf.cast(mask, tf.int32), exclusive=True))


def last_true(mask: tf.Tensor) -> tf.Tensor:
    """Returns the place of the last true at or before each place, alike; -1 where there is none."""
    places = tf.concat([[-1], places_of(mask)], axis=0)
    return tf.gather(places, tf.cumsum(tf.cast(mask, tf.int32)))


def places_of(mask: tf.Tensor) -> tf.Tensor:
    """Returns the places that are true: boolean `[N]` -> int32 `[M]`."""
    return tf.cast(tf.reshape(tf.where(mask), [-1]), tf.int32)


def is_one_of(points: tf.Tensor, characters: str) -> tf.Tensor:
    """Returns which code points are among some ASCII characters: int32 `[N]` -> boolean `[N]`."""
    table = np.full(130, False)
    table[[ord(character) + 1 for character in characters]] = True
    return tf.gather(tf.constant(table), tf.clip_by_value(points + 1, 0, 129))
