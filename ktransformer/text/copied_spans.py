"""Takes the spans out of texts that a translation copies, in a graph."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.text.code_points import (
    count_at,
    join_segments,
    row_ids,
    to_bytes,
    to_code_points,
    to_texts,
)
from ktransformer.text.scan import last_true, next_true, places_of, shift
from ktransformer.text.spans import SpanFinder, Spans, with_edges
from ktransformer.text.tag_pairs import pair_tags

EDGE, SPACE, WORD, UNSPACED, OPENS, CLOSES = range(6)
"""Kinds of characters, for the spaces between them."""
FAR, TOUCHES, SPACED = range(3)
"""How a span follows the one before: with text between, with nothing, with white space alone."""
AT_START, AT_END, BEFORE_WORD, AFTER_WORD = range(4)
"""Where a span stands among the words: no text before it; none behind; next to a word."""


class CopiedSpans(NamedTuple):
    """The M spans of B texts, in order, and how each stood in its text.

    Attributes:
        source: Int32, the bytes of all texts.
        starts: Int32 `[M]`, the place of the first byte of each span.
        lengths: Int32 `[M]`, its bytes.
        row_splits: Int32 `[B + 1]`, the spans of each text.
        tags: Int32 `[M]`, see `Spans`.
        partners: Int32 `[M]`, the place of the other tag of the pair; -1 for none.
        left: Int32 `[M]`, the kind of the character before the span and those it touches.
        right: Int32 `[M]`, the kind of the one behind.
        follows: Int32 `[M]`: `FAR`, `TOUCHES` or `SPACED`.
        attached: Int32 `[M]`: `AT_START`, `AT_END`, `BEFORE_WORD` or `AFTER_WORD`.
        words_before: Int32 `[M]`, the words of the text before the span.
        words: Int32 `[B]`, the words of the text without its spans.
    """

    source: tf.Tensor
    starts: tf.Tensor
    lengths: tf.Tensor
    row_splits: tf.Tensor
    tags: tf.Tensor
    partners: tf.Tensor
    left: tf.Tensor
    right: tf.Tensor
    follows: tf.Tensor
    attached: tf.Tensor
    words_before: tf.Tensor
    words: tf.Tensor

    def repeat(self, times: int | tf.Tensor) -> "CopiedSpans":
        """Returns the spans of as many hypotheses of each text, one after the other."""
        counts = tf.repeat(self.row_splits[1:] - self.row_splits[:-1], times)
        splits = tf.concat([[0], tf.cumsum(counts)], axis=0)
        rows = row_ids(splits)
        moved = tf.gather(splits, rows) - tf.gather(self.row_splits, rows // times)
        places = tf.range(tf.shape(rows)[0]) - moved
        chosen = {
            name: tf.gather(getattr(self, name), places)
            for name in self._fields
            if name not in ("source", "row_splits", "words")
        }
        partners = chosen.pop("partners")
        return self._replace(
            **chosen,
            partners=tf.where(partners < 0, -1, partners + moved),
            row_splits=splits,
            words=tf.repeat(self.words, times),
        )


def kinds_of(finder: SpanFinder, points: tf.Tensor) -> tf.Tensor:
    """Returns the kind of each code point: int32 `[N]`; `EDGE` for -1."""
    names = ("space", "word", "unspaced", "opens", "closes")
    flags = finder.table.look_up(points, names)
    kinds = tf.zeros_like(points)
    for kind, flag in enumerate(flags, start=SPACE):
        kinds = tf.where((kinds == EDGE) & flag, kind, kinds)
    return kinds


def begins_word(kinds: tf.Tensor, apart: tf.Tensor) -> tf.Tensor:
    """Returns which characters begin a word: one without spaces, or a letter after no letter.

    Args:
        kinds: Int32 `[N]`.
        apart: Boolean `[N]`, the characters that surely belong to no word with the one before.
    """
    return (kinds == UNSPACED) | ((kinds == WORD) & (apart | (shift(kinds, -1) != WORD)))


def take_out(
    finder: SpanFinder, texts: tf.Tensor, symbols: Sequence[str] = ()
) -> tuple[tf.Tensor, CopiedSpans]:
    """Replaces the spans of texts `[B]` by symbols, or by nothing.

    A text without a word beside its spans gets no symbol: there is nothing to translate.

    Args:
        finder: Finds the spans.
        texts: The texts.
        symbols: `SYMBOLS`; none to leave the spans out.

    Returns:
        The texts without their spans, string `[B]`, and the spans.
    """
    text_bytes = to_bytes(texts)
    source = text_bytes.flat_values
    characters = to_code_points(text_bytes)
    spans = finder.find(characters)
    points = with_edges(characters)
    size = tf.shape(points)[0]
    kinds, edge = kinds_of(finder, points), points < 0
    opened, closed = (tf.cumsum(count_at(x, size)) for x in (spans.starts, spans.ends))
    outside = opened == closed
    edges = places_of(edge)  # [B + 1]
    first, last = (tf.gather(edges, spans.rows + i) for i in (0, 1))

    def count_before(mask: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        counts = tf.cumsum(tf.cast(mask, tf.int32), exclusive=True)
        return tf.gather(counts, places)

    start_of_word = outside & begins_word(kinds, ~shift(outside, -1))
    words_at_edges = count_before(start_of_word, edges)
    visible = outside & (kinds != SPACE) & ~edge
    shown_before = count_before(visible, spans.starts)
    before = shown_before > count_before(visible, first)
    behind = count_before(visible, last) > shown_before
    left = tf.gather(kinds, tf.gather(last_true(outside), spans.starts - 1))
    right = tf.gather(kinds, tf.gather(next_true(outside), spans.ends))
    last_shown = tf.gather(kinds, tf.maximum(tf.gather(last_true(visible), spans.starts), 0))
    ahead = (right == WORD) | ((last_shown == CLOSES) & (right != CLOSES))
    attached = tf.where(ahead, BEFORE_WORD, AFTER_WORD)
    attached = tf.where(behind, attached, AT_END)
    attached = tf.where(before, attached, AT_START)
    # The byte of each character; an edge has none.
    ends = tf.concat([characters.starts, tf.shape(source)], axis=0)
    bytes_at = tf.gather(ends, count_before(~edge, tf.range(size)))
    span_start = tf.gather(bytes_at, spans.starts)
    row_splits = tf.concat([[0], tf.cumsum(count_at(spans.rows, tf.shape(texts)[0]))], axis=0)
    copied = CopiedSpans(
        source=source,
        starts=span_start,
        lengths=tf.gather(bytes_at, spans.ends) - span_start,
        row_splits=row_splits,
        tags=spans.tags,
        partners=pair_among(spans.tags != 0, spans.tags, spans.names, spans.rows),
        left=left,
        right=right,
        follows=_how_spans_follow(spans, shown_before),
        attached=attached,
        words_before=count_before(start_of_word, spans.starts) - count_before(start_of_word, first),
        words=words_at_edges[1:] - words_at_edges[:-1],
    )
    # Each character is a segment of its own bytes, or, where a span starts, of what replaces it.
    lengths = shift(bytes_at, 1) - bytes_at
    near = ~shift(outside, 1) | ~shift(outside, -1)  # The replacement brings its own spaces.
    lengths = tf.where(outside & ~edge & ~((kinds == SPACE) & near), lengths, 0)
    number = tf.range(tf.shape(spans.rows)[0]) - tf.gather(row_splits, spans.rows)
    offsets, replaced = _replacements(
        copied, spans.rows, number, tf.gather(kinds, spans.ends), symbols
    )
    at = tf.expand_dims(spans.starts, 1)
    lengths += tf.scatter_nd(at, replaced, tf.shape(lengths))
    begins = count_at(spans.starts, size) > 0
    moved = tf.scatter_nd(at, offsets + tf.shape(source)[0], tf.shape(lengths))
    table = np.frombuffer("".join(f" {symbol} " for symbol in symbols or " ").encode(), np.uint8)
    taken = join_segments(
        tf.concat([source, tf.constant(table.astype(np.int32))], axis=0),
        tf.where(begins, moved, bytes_at),
        lengths,
        tf.concat([edges[:-1], tf.reshape(size, [1])], axis=0),
    )
    return to_texts(taken), copied


def pair_among(chosen: tf.Tensor, tags: tf.Tensor, names: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns the partner of each span among some, int32 `[M]`; -1 for none and for the others."""
    places = places_of(chosen)
    tags, names, rows = (tf.gather(values, places) for values in (tags, names, rows))
    partners = pair_tags(tags, names, rows)
    paired = places_of(partners >= 0)
    at = tf.expand_dims(tf.gather(places, paired), 1)
    of_paired = tf.gather(places, tf.gather(partners, paired))
    return tf.scatter_nd(at, of_paired + 1, tf.shape(chosen)) - 1


def _how_spans_follow(spans: Spans, shown_before: tf.Tensor) -> tf.Tensor:
    """Returns `CopiedSpans.follows`, from the visible characters before each span."""
    near = (shift(shown_before, -1) == shown_before) & (shift(spans.rows + 1, -1) == spans.rows + 1)
    touches = shift(spans.ends, -1) == spans.starts
    return tf.where(near, tf.where(touches, TOUCHES, SPACED), FAR)


def _replacements(
    copied: CopiedSpans,
    rows: tf.Tensor,
    number: tf.Tensor,
    after: tf.Tensor,
    symbols: Sequence[str],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where in the table of symbols each span's replacement begins, and its bytes."""
    spaced = (copied.right == SPACE) | ((copied.left == SPACE) & (copied.right != CLOSES))
    spaced |= (copied.left == WORD) & (copied.right == WORD)
    gap = tf.cast(spaced, tf.int32)  # Every symbol in the table follows a space.
    if not symbols:
        return tf.zeros_like(gap), gap
    width = len(symbols[0]) + 2
    # A word begins with a space, as elsewhere in a text; a sign does not.
    wide = (after == SPACE) | (after == WORD) | (after == OPENS)
    length = tf.where(wide, width, width - 1)
    has_words = tf.gather(copied.words, rows) > 0
    return (number % len(symbols)) * width, tf.where(has_words, length, gap)
