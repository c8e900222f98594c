"""Finds the sentences of texts in a graph, with operations that LiteRT has, too."""

from typing import NamedTuple

import tensorflow as tf

from ktransformer.text.character_classes import CharacterClass
from ktransformer.text.code_points import CodePoints, count_at, row_ids
from ktransformer.text.joined_lines import before, behind, join_lines
from ktransformer.text.sentence_ends import sentence_ends


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


def find_sentences(points: CodePoints) -> Sentences:
    """Finds the sentences of texts.

    Every character but white space is in a sentence; no sentence extends over a line break.
    """
    lines = join_lines(points)
    last = sentence_ends(lines)  # [K]
    line_break = tf.equal(lines.classes, CharacterClass.LINE_BREAK)
    space = tf.equal(lines.classes, CharacterClass.SPACE)
    text = ~(space | line_break)
    begins = before(line_break) | before(last) | (before(space) & before(before(last)))
    starts = tf.gather(lines.places, tf.where(text & begins)[:, 0])
    ends = tf.gather(lines.places, tf.where(text & (last | behind(line_break)))[:, 0]) + 1
    # A line break stands before each text, so that text b begins at its first character plus b.
    row_begins = points.row_splits + tf.range(tf.shape(points.row_splits)[0])
    begun = tf.concat([[0], tf.cumsum(count_at(starts, row_begins[-1] + 1))], axis=0)
    row_splits = tf.gather(begun, row_begins)
    breaks = row_ids(row_splits) + 1  # [M]
    return Sentences(starts - breaks, ends - breaks, row_splits)
