"""Cuts sentences into parts in a graph: at what no model reads, at clauses, at spaces, anywhere."""

import functools
import unicodedata
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.text.code_points import REPLACEMENT, CodePoints, count_at
from ktransformer.text.sentences import Sentences

_SPACES = (
    *((0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680)),
    *((0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)
# Control characters, the byte order mark, and bytes that are not UTF-8.
_UNREADABLE = ((0x00, 0x1F), (0x7F, 0x9F), (0xFEFF, 0xFEFF), (REPLACEMENT, REPLACEMENT))
_MARKS = ",;:-\u2013\u2014\u060c\u061b"  # They end a clause before white space,
_FREE_MARKS = "\u2014\u2015\uff0c\u3001\uff1b\uff1a\uff64\ufe50\u1363\u1364"  # and these anywhere.
_JOINERS = ((0x200C, 0x200D), (0xFE00, 0xFE0F), (0x1F3FB, 0x1F3FF), (0xE0100, 0xE01EF))
_TABLE = 0x3100  # All scripts whose marks combine with the character before lie below.
_DISTANCES = 1 << 28  # More than twice the characters of all texts.


class Parts(NamedTuple):
    """Parts of sentences, without the white space around them.

    Attributes:
        starts: Int32 `[M]`, the first character of each, a place in `CodePoints.points`.
        ends: Int32 `[M]`, the place behind its last character.
    """

    starts: tf.Tensor
    ends: tf.Tensor


class Cuts(NamedTuple):
    """Where the parts of sentences begin.

    Attributes:
        visible: Boolean `[N]`, the characters that a part may begin and end with.
        before: Boolean `[N]`, the characters that no part extends across, from before to behind.
    """

    visible: tf.Tensor
    before: tf.Tensor

    def parts(self) -> Parts:
        """Returns the parts: from the first to the last visible character between two cuts."""
        places = tf.cast(tf.where(self.visible)[:, 0], tf.int32)
        groups = tf.gather(tf.cumsum(tf.cast(self.before, tf.int32)), places)
        count = tf.shape(groups)[0]
        changes = tf.concat([[-1], groups], axis=0) != tf.concat([groups, [-1]], axis=0)
        # Without a character the two -1 are equal, and there is no change.
        return Parts(_where(places, changes[:count]), _where(places, changes[1:]) + 1)


def cut_sentences(points: CodePoints, sentences: Sentences) -> Cuts:
    """Cuts texts at the starts of sentences and at what no model reads.

    Control characters (NUL among them), the byte order mark, and bytes that are not UTF-8 end a
    part, and belong to none.
    """
    count = tf.shape(points.points)[0]
    opened = count_at(sentences.starts, count + 1) - count_at(sentences.ends, count + 1)
    unreadable = _is_in(points.points, _UNREADABLE)
    space = _is_in(points.points, _SPACES)
    visible = (tf.cumsum(opened)[:-1] > 0) & ~space & ~unreadable
    starts = count_at(sentences.starts, count) > 0
    return Cuts(visible, starts | (unreadable & ~space))


def break_levels(points: CodePoints) -> tf.Tensor:
    """Returns how well a part may begin at each character.

    Returns:
        Int32 `[N]`: 4 behind a clause (comma, semicolon, colon, dash), 3 at white space, 2 anywhere
        else, 1 within a character of several code points.
    """
    flat = points.points
    before = tf.concat([[0], flat], axis=0)[:-1]
    space = _is_in(flat, _SPACES)
    clause = (space & _is_one_of(before, _MARKS)) | (
        _is_one_of(before, _FREE_MARKS) & ~_is_one_of(flat, _FREE_MARKS)
    )
    combining = tf.gather(_combining_marks(), tf.minimum(flat, _TABLE))
    inner = combining | _is_in(flat, _JOINERS) | (before == 0x200D)
    return tf.where(clause, 4, tf.where(space, 3, tf.where(inner, 1, 2)))


def cut_long(
    cuts: Cuts, levels: tf.Tensor, parts: Parts, long: tf.Tensor
) -> tuple[Cuts, tf.Tensor]:
    """Cuts parts in two: at the best level that it has, as near to its middle as it has it.

    Args:
        cuts: The cuts so far.
        levels: See `break_levels`.
        parts: Their parts.
        long: Boolean `[M]`, the parts to be cut; one of a single character cannot be.

    Returns:
        All cuts, and whether there are new ones.
    """
    count = tf.shape(levels)[0]
    begun = tf.cumsum(count_at(parts.starts, count))
    # One more part, for characters that have none before them: nothing is gathered from nothing.
    starts, ends = (tf.concat([each, [0]], axis=0) for each in parts)
    long = tf.concat([long, [False]], axis=0)
    own = tf.maximum(begun - 1, 0)  # [N], the part that begins last.
    starts, ends = tf.gather(starts, own), tf.gather(ends, own)
    places = tf.range(count)
    inner = (begun > 0) & (places > starts) & (places < ends) & tf.gather(long, own)
    distance = 2 * places - starts - ends  # From the middle, doubled. The later of two is worse.
    worse = 2 * tf.abs(distance) + tf.cast(distance > 0, tf.int32)
    worth = tf.where(inner, levels * _DISTANCES - worse, 0)
    best = tf.math.unsorted_segment_max(worth, own, tf.shape(long)[0])
    chosen = inner & (worth == tf.gather(best, own))
    return cuts._replace(before=cuts.before | chosen), tf.reduce_any(chosen)


def _where(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    return tf.gather(values, tf.where(chosen)[:, 0])


def _is_in(points: tf.Tensor, ranges: tuple[tuple[int, int], ...]) -> tf.Tensor:
    return functools.reduce(
        tf.logical_or, ((points >= first) & (points <= last) for first, last in ranges)
    )


def _is_one_of(points: tf.Tensor, characters: str) -> tf.Tensor:
    return _is_in(points, tuple((ord(each), ord(each)) for each in characters))


def _combining_marks() -> np.ndarray:
    """Returns which code points below `_TABLE`, and that itself, are combining marks."""
    marks = [unicodedata.category(chr(i)).startswith("M") for i in range(_TABLE)]
    return np.array([*marks, False])
