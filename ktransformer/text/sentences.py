"""Finds the sentences of texts in a graph, with operations that LiteRT has, too."""

from typing import NamedTuple

import tensorflow as tf

from ktransformer.text.character_classes import CharacterClass, character_classes, is_one_of
from ktransformer.text.code_points import CodePoints, row_ids

_NEWLINE = ord("\n")
_SKIPPED = 6  # Characters between a stop and the first word behind it: spaces, quotes, dashes.


class Sentences(NamedTuple):
    """The M sentences of B texts, one text's after the other's, without white space around them.

    Attributes:
        starts: Int32 `[M]`, the place of a sentence's first character among all characters.
        ends: Int32 `[M]`, the place behind its last character.
        row_splits: Int32 `[B + 1]`: text b has the sentences from `row_splits[b]` to before
            `row_splits[b + 1]`.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    row_splits: tf.Tensor


class _Line(NamedTuple):
    """The characters of all texts: each run of white space is one, each text between line breaks.

    Attributes:
        points: Int32 `[K]`, the code points.
        classes: Int32 `[K]`, their classes; the first and the last are line breaks.
        places: Int32 `[K]`, the place of each, were there a line break before and behind each text.
    """

    points: tf.Tensor
    classes: tf.Tensor
    places: tf.Tensor


def find_sentences(points: CodePoints) -> Sentences:
    """Finds the sentences of texts.

    All characters but white space are in a sentence, none extends over a line break.
    """
    line = _join_white_space(points)
    last = _sentence_ends(line)  # [K]
    space, line_break = (
        tf.equal(line.classes, kind) for kind in (CharacterClass.SPACE, CharacterClass.LINE_BREAK)
    )
    text = ~(space | line_break)
    behind = _before(line_break) | _before(last) | (_before(space) & _before(_before(last)))
    starts = tf.gather(line.places, tf.where(text & behind)[:, 0])
    ends = tf.gather(line.places, tf.where(text & (last | _behind(line_break)))[:, 0]) + 1
    # Line breaks stood before the texts: one before the first text's, two before the second's.
    row_begins = points.row_splits + tf.range(tf.shape(points.row_splits)[0])
    begun = tf.scatter_nd(
        tf.expand_dims(starts, 1), tf.ones_like(starts), tf.reshape(row_begins[-1] + 1, [1])
    )
    begun = tf.concat([[0], tf.cumsum(begun)], axis=0)
    row_splits = tf.gather(begun, row_begins)
    rows = row_ids(row_splits) + 1  # [M]
    return Sentences(starts - rows, ends - rows, row_splits)


def _join_white_space(points: CodePoints) -> _Line:
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
    breaks = _count(tf.equal(classes, CharacterClass.LINE_BREAK))
    next_kept = tf.concat([kept[1:], tf.reshape(size, [1])], axis=0)
    has_break = tf.gather(breaks, next_kept) > tf.gather(breaks, kept)
    classes = tf.where(has_break, CharacterClass.LINE_BREAK, tf.gather(classes, kept))
    return _Line(tf.gather(spread, kept), classes, kept)


def _sentence_ends(line: _Line) -> tf.Tensor:
    """Returns where a sentence ends before the end of its line: bool `[K]`."""
    classes = line.classes
    size = tf.shape(classes)[0]
    white = is_one_of(classes, CharacterClass.SPACE, CharacterClass.LINE_BREAK)
    stop = tf.equal(classes, CharacterClass.STOP) & (~_before(white) | _behind(white))
    exclamation = is_one_of(classes, CharacterClass.EXCLAMATION, CharacterClass.WIDE_STOP)
    terminal = stop | exclamation | tf.equal(classes, CharacterClass.ELLIPSIS)
    guillemet = tf.equal(line.points, ord("»")) & _before(white) & _behind(white)  # In French.
    apart = is_one_of(classes, CharacterClass.CLOSING, CharacterClass.EMOJI) | guillemet | terminal
    tail = apart | (tf.equal(classes, CharacterClass.QUOTE) & ~_before(white))
    tail = tail | (tf.equal(classes, CharacterClass.SPACE) & _before(tail) & _behind(apart))
    first = tf.cast(tf.where(tail & ~_before(tail))[:, 0], tf.int32)  # [C]
    last = tf.cast(tf.where(tail & ~_behind(tail))[:, 0], tf.int32)  # [C]

    def has(mask: tf.Tensor) -> tf.Tensor:
        counts = _count(mask)
        return tf.gather(counts, last + 1) > tf.gather(counts, first)

    behind = tf.minimum(last + 1, size - 1)
    word = behind
    skipped = is_one_of(
        classes,
        CharacterClass.SPACE,
        CharacterClass.OPENING,
        CharacterClass.QUOTE,
        CharacterClass.DASH,
    )
    for _ in range(_SKIPPED):
        word = word + tf.cast(tf.gather(skipped, word), tf.int32)
    next_class = tf.gather(classes, behind)
    word_class = tf.gather(classes, word)
    apart_behind = tf.equal(next_class, CharacterClass.SPACE)
    ends = has(terminal) & apart_behind & ~tf.equal(word_class, CharacterClass.LOWER)
    ends = ends | has(tf.equal(classes, CharacterClass.WIDE_STOP))
    ends = ends | (has(exclamation) & tf.equal(next_class, CharacterClass.IDEOGRAPH))
    ends = ends & ~tf.equal(next_class, CharacterClass.COMMA)
    return tf.scatter_nd(tf.expand_dims(last, 1), tf.cast(ends, tf.int32), [size]) > 0


def _before(values: tf.Tensor) -> tf.Tensor:
    """Returns what stands one place before each place."""
    return tf.concat([values[:1], values[:-1]], axis=0)


def _behind(values: tf.Tensor) -> tf.Tensor:
    """Returns what stands one place behind each place."""
    return tf.concat([values[1:], values[-1:]], axis=0)


def _count(mask: tf.Tensor) -> tf.Tensor:
    """Returns how many places before each place are marked: bool `[N]` -> int32 `[N + 1]`."""
    return tf.concat([[0], tf.cumsum(tf.cast(mask, tf.int32))], axis=0)
