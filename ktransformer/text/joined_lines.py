"""The lines of texts, one behind the other, with each run of white space as one character."""

from typing import NamedTuple

import tensorflow as tf

from ktransformer.text.character_classes import CharacterClass, character_classes, is_one_of
from ktransformer.text.code_points import CodePoints, row_ids

_NEWLINE = ord("\n")


class JoinedLines(NamedTuple):
    """The characters of all texts, with a line break before and behind each text.

    Attributes:
        points: Int32 `[K]`, the code points, each run of white space joined into one.
        classes: Int32 `[K]`, their classes: a run that holds a line break is a `LINE_BREAK`,
            another is a `SPACE`. The first and the last are line breaks.
        places: Int32 `[K]`, the place of each (of a run, its first character's) among the
            characters and the line breaks between texts.
    """

    points: tf.Tensor
    classes: tf.Tensor
    places: tf.Tensor


def join_lines(points: CodePoints) -> JoinedLines:
    """Puts texts behind one another and joins each run of white space."""
    places = tf.range(tf.shape(points.points)[0]) + row_ids(points.row_splits) + 1
    size = tf.shape(points.points)[0] + tf.shape(points.row_splits)[0]
    spread = tf.scatter_nd(
        tf.expand_dims(places, 1), points.points - _NEWLINE, tf.reshape(size, [1])
    )
    spread = spread + _NEWLINE
    classes = character_classes(spread)
    white = is_one_of(classes, CharacterClass.SPACE, CharacterClass.LINE_BREAK)
    follows = tf.concat([[False], white[:-1]], axis=0)
    kept = tf.cast(tf.where(~(white & follows))[:, 0], tf.int32)  # [K]
    breaks = count(tf.equal(classes, CharacterClass.LINE_BREAK))
    next_kept = tf.concat([kept[1:], tf.reshape(size, [1])], axis=0)
    has_break = tf.gather(breaks, next_kept) > tf.gather(breaks, kept)
    classes = tf.where(has_break, CharacterClass.LINE_BREAK, tf.gather(classes, kept))
    return JoinedLines(tf.gather(spread, kept), classes, kept)


def before(values: tf.Tensor) -> tf.Tensor:
    """Returns the value one place before each place."""
    return tf.concat([values[:1], values[:-1]], axis=0)


def behind(values: tf.Tensor) -> tf.Tensor:
    """Returns the value one place behind each place."""
    return tf.concat([values[1:], values[-1:]], axis=0)


def count(mask: tf.Tensor) -> tf.Tensor:
    """Returns how many places before each place are marked: bool `[N]` -> int32 `[N + 1]`."""
    return tf.concat([[0], tf.cumsum(tf.cast(mask, tf.int32))], axis=0)
