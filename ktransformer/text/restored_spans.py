"""Puts the spans back into the translations of the texts that they were taken from, in a graph."""

from typing import NamedTuple

import tensorflow as tf

from ktransformer.text.code_points import (
    CodePoints,
    count_at,
    join_segments,
    row_ids,
    to_bytes,
    to_code_points,
    to_texts,
)
from ktransformer.text.copied_spans import (
    AT_END,
    AT_START,
    BEFORE_WORD,
    CLOSES,
    EDGE,
    FAR,
    OPENS,
    SPACE,
    SPACED,
    UNSPACED,
    WORD,
    CopiedSpans,
    begins_word,
    kinds_of,
    pair_among,
)
from ktransformer.text.scan import is_one_of, last_true, next_true, places_of, shift
from ktransformer.text.spans import SpanFinder, with_edges

_SYMBOL_LENGTH, _NUMBERS = 4, 10  # Of `SYMBOLS`.


class _Slots(NamedTuple):
    """The places of texts where a span may stand: before each visible character, and at the end.

    Attributes:
        kinds: Int32 `[S]`, the kind of the character; `EDGE` for the end of a text.
        starts: Int32 `[S]`, the place of its first byte.
        lengths: Int32 `[S]`, its bytes.
        had_symbol: Boolean `[S]`, whether a symbol stood in the gap before it.
        words: Int32 `[S + 1]`, the words that begin before each slot, over all texts.
        word_starts: Int32, the slot before the first character of each word.
        word_ends: Int32, the slot behind its last.
        row_splits: Int32 `[B + 1]`, the slots of each text.
    """

    kinds: tf.Tensor
    starts: tf.Tensor
    lengths: tf.Tensor
    had_symbol: tf.Tensor
    words: tf.Tensor
    word_starts: tf.Tensor
    word_ends: tf.Tensor
    row_splits: tf.Tensor


def restore(
    finder: SpanFinder, texts: tf.Tensor, copied: CopiedSpans, *, has_symbols: bool
) -> tf.Tensor:
    """Puts spans into translations `[B]`.

    The j-th time that a symbol occurs, it is the j-th span with it; one that occurs more often is
    removed. A span without a symbol goes between the words that correspond to its place in the
    source, by their number from its neighbours on. If tags are not nested as in the source, they
    share their places in the order of the source.

    Args:
        finder: The one that found the spans.
        texts: The translations.
        copied: The spans of each.
        has_symbols: Whether symbols stand for them.

    Returns:
        The translations with all spans, string `[B]`.
    """
    text_bytes = to_bytes(texts)
    characters = to_code_points(text_bytes)
    slots, symbols, symbol_slots = _find_slots(
        finder, characters, text_bytes.flat_values, copied, has_symbols
    )
    rows = row_ids(copied.row_splits)
    slot, turn = _place(slots, copied, rows, symbols, symbol_slots)
    slot, order = _nest(slot, turn, copied, rows)
    return _write(slots, slot, order, copied, text_bytes.flat_values)


def _find_slots(
    finder: SpanFinder,
    characters: CodePoints,
    text_bytes: tf.Tensor,
    copied: CopiedSpans,
    has_symbols: bool,
) -> tuple[_Slots, tf.Tensor, tf.Tensor]:
    """Returns the slots, the number of each span's symbol, -1 for none, and each symbol's slot."""
    points = with_edges(characters)
    kinds, edge = kinds_of(finder, points), points < 0
    symbol = tf.zeros_like(edge)
    begins = symbol
    if has_symbols:
        begins = (points == ord("<")) & (shift(points, 1) == ord("c"))
        begins &= is_one_of(shift(points, 2), "0123456789") & (shift(points, 3) == ord(">"))
        for i in range(_SYMBOL_LENGTH):
            symbol |= shift(begins, -i)
    gap = (kinds == SPACE) | symbol
    shown = ~gap & (tf.range(tf.shape(points)[0]) > 0)
    slots_before = tf.cumsum(tf.cast(shown, tf.int32), exclusive=True)
    symbols_before = tf.cumsum(tf.cast(begins, tf.int32), exclusive=True)
    at = places_of(shown)
    kinds = tf.gather(kinds, at)
    begins_here = begins_word(kinds, tf.gather(gap, at - 1))
    continues = (kinds == WORD) & (shift(kinds, 1) == WORD) & ~shift(begins_here, 1)
    ends_here = (kinds == UNSPACED) | ((kinds == WORD) & ~continues)
    first_bytes = tf.concat([characters.starts, tf.shape(text_bytes)], axis=0)
    first_bytes = tf.gather(first_bytes, tf.cumsum(tf.cast(~edge, tf.int32), exclusive=True))
    starts = tf.gather(first_bytes, at)
    behind = tf.concat([first_bytes, first_bytes[-1:]], axis=0)
    edges = places_of(edge)
    found = tf.gather(symbols_before, at)
    slots = _Slots(
        kinds=kinds,
        starts=starts,
        lengths=tf.where(kinds == EDGE, 0, tf.gather(behind, at + 1) - starts),
        had_symbol=found > shift(found, -1),
        words=tf.cumsum(
            tf.cast(tf.concat([begins_here, [False]], axis=0), tf.int32), exclusive=True
        ),
        word_starts=places_of(begins_here),
        word_ends=places_of(ends_here) + 1,
        row_splits=tf.concat([[0], tf.gather(slots_before, edges[1:]) + 1], axis=0),
    )
    if not has_symbols:
        return slots, tf.fill(tf.shape(copied.starts), -1), tf.zeros([1], tf.int32)
    places = places_of(begins)
    digits = tf.gather(points, places + 2) - ord("0")
    row = tf.gather(tf.cumsum(tf.cast(edge, tf.int32)), places) - 1
    symbol_slots = tf.concat([tf.gather(slots_before, places), [0]], axis=0)
    return slots, _find_spans(digits, row, copied), symbol_slots


def _find_spans(digits: tf.Tensor, rows: tf.Tensor, copied: CopiedSpans) -> tf.Tensor:
    """Returns the number of each span's symbol among those of all texts, -1 for none."""
    same = tf.cast(tf.expand_dims(digits, 1) == tf.range(_NUMBERS), tf.int32)  # [O, 10]
    before = tf.cumsum(tf.concat([tf.zeros([1, _NUMBERS], tf.int32), same], axis=0))  # [O + 1, 10]
    first = tf.cumsum(count_at(rows, tf.size(copied.row_splits)), exclusive=True)
    earlier = before[:-1] - tf.gather(before, tf.gather(first, rows))
    number = digits + _NUMBERS * tf.reduce_sum(earlier * same, axis=1)
    span = tf.gather(copied.row_splits, rows) + number
    valid = places_of(span < tf.gather(copied.row_splits, rows + 1))
    at = tf.expand_dims(tf.gather(span, valid), 1)
    return tf.scatter_nd(at, valid + 1, tf.shape(copied.starts)) - 1


def _place(
    slots: _Slots,
    copied: CopiedSpans,
    rows: tf.Tensor,
    symbols: tf.Tensor,
    symbol_slots: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the slot of every span, and a number that orders the spans of one slot.

    The slot is that of the span's symbol, or follows from its place in the source.
    """
    is_known = symbols >= 0
    known = tf.gather(symbol_slots, tf.maximum(symbols, 0))
    row_start = tf.gather(slots.row_splits, rows)
    row_end = tf.gather(slots.row_splits, rows + 1) - 1
    first_word = tf.gather(slots.words, row_start)
    target_words = tf.gather(slots.words, row_end) - first_word
    source_words = tf.gather(copied.words, rows)
    before, after = last_true(is_known), next_true(is_known)
    has_before = before >= tf.gather(copied.row_splits, rows)
    has_after = after < tf.gather(copied.row_splits, rows + 1)
    padded_known = tf.concat([known, [0]], axis=0)
    padded_words = tf.concat([copied.words_before, [0]], axis=0)
    before = tf.maximum(before, 0)

    def words_at(slot: tf.Tensor) -> tf.Tensor:
        return tf.gather(slots.words, tf.maximum(slot, 0)) - first_word

    slot_before, slot_after = tf.gather(padded_known, before), tf.gather(padded_known, after)
    low = tf.where(has_before, tf.gather(padded_words, before), 0)
    high = tf.where(has_after, tf.gather(padded_words, after), source_words)
    target_low = tf.where(has_before, words_at(slot_before), 0)
    target_high = tf.where(has_after, words_at(slot_after), target_words)
    share = tf.cast(copied.words_before - low, tf.float32) / tf.cast(
        tf.maximum(high - low, 1), tf.float32
    )
    span_words = tf.cast(tf.maximum(target_high - target_low, 0), tf.float32)
    boundary = target_low + tf.cast(tf.floor(share * span_words + 0.5), tf.int32)
    starts = tf.concat([slots.word_starts, [0]], axis=0)
    ends = tf.concat([slots.word_ends, [0]], axis=0)
    most = tf.shape(starts)[0] - 1
    before_word = tf.gather(starts, tf.clip_by_value(first_word + boundary, 0, most))
    before_word = tf.where(boundary >= target_words, row_end, before_word)
    after_word = tf.gather(ends, tf.clip_by_value(first_word + boundary - 1, 0, most))
    after_word = tf.where(boundary <= 0, row_start, after_word)
    slot = tf.where(copied.attached == BEFORE_WORD, before_word, after_word)
    slot = tf.where(copied.attached == AT_START, row_start, slot)
    slot = tf.where(copied.attached == AT_END, row_end, slot)
    joins_after = has_after & (copied.words_before == high)
    joins_before = has_before & (copied.words_before == low)
    slot = tf.where(joins_after, slot_after, slot)
    slot = tf.where(joins_before, slot_before, slot)
    # Without any symbol, spans keep the order of the source.
    slot = tf.where(has_before | has_after, slot, tf.sort(slot))
    padded_symbols = tf.concat([symbols, [0]], axis=0)
    turn = tf.where(joins_after, 2 * tf.gather(padded_symbols, after), 0)
    turn = tf.where(joins_before, 2 * tf.gather(padded_symbols, before) + 2, turn)
    return tf.where(is_known, known, slot), tf.where(is_known, 2 * symbols + 1, turn)


def _nest(
    slot: tf.Tensor, turn: tf.Tensor, copied: CopiedSpans, rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves the tags of the texts where they are not well nested.

    Returns:
        The slot of each span, and the spans in the order of their slots.
    """
    by_turn = tf.argsort(turn, stable=True)
    order = tf.gather(by_turn, tf.argsort(tf.gather(slot, by_turn), stable=True))
    paired = copied.partners >= 0
    places = tf.range(tf.shape(slot)[0])
    names = tf.minimum(places, copied.partners)
    found = pair_among(*(tf.gather(values, order) for values in (paired, copied.tags, names, rows)))
    broken = tf.gather(paired, order) & (found < 0)
    counts = tf.cumsum(tf.cast(tf.concat([broken, [False]], axis=0), tf.int32), exclusive=True)
    bounds = tf.gather(counts, copied.row_splits)
    mends = tf.gather(bounds[1:] > bounds[:-1], rows) & paired
    in_order = tf.gather(order, places_of(tf.gather(mends, order)))
    # The places that these tags have, in the order of the source.
    at = tf.expand_dims(places_of(mends), 1)
    chosen = tf.where(mends, tf.scatter_nd(at, in_order, tf.shape(slot)), places)
    rank = tf.scatter_nd(tf.expand_dims(order, 1), places, tf.shape(slot))
    return tf.gather(slot, chosen), tf.argsort(tf.gather(rank, chosen))


def _write(
    slots: _Slots, slot: tf.Tensor, order: tf.Tensor, copied: CopiedSpans, text_bytes: tf.Tensor
) -> tf.Tensor:
    """Joins the characters of all slots and the spans before them, each with what precedes it."""
    count = tf.shape(slots.kinds)[0]
    spans = tf.shape(slot)[0]
    size = tf.reshape(count + spans, [1])
    of_slots = tf.range(count) + tf.cumsum(count_at(slot, count))
    of_spans = tf.gather(slot, order) + tf.range(spans)
    # Characters are numbered from 0 on, spans from `count` on.
    items = tf.scatter_nd(tf.expand_dims(of_slots, 1), tf.range(count), size)
    items += tf.scatter_nd(tf.expand_dims(of_spans, 1), order + count, size)
    before = tf.concat([count - 1 + tf.zeros_like(items[:1]), items[:-1]], axis=0)
    gaps, gap_lengths = _original_gaps(slots)
    space = tf.shape(text_bytes)[0] + tf.shape(copied.source)[0]
    table = tf.concat([text_bytes, copied.source, [ord(" ")]], axis=0)
    is_span, after_span = items >= count, before >= count
    between = _needs_space(slots, copied, before, items, count)
    plain = ~is_span & ~after_span
    own = tf.minimum(items, count - 1)
    keeps = plain & ~tf.gather(slots.had_symbol, own)
    inner = (tf.gather(slots.kinds, own) != EDGE) & ~_at_edge(slots, before, count)
    spaced = tf.where(plain, inner, between)
    prefix = tf.where(keeps, tf.gather(gaps, own), space)
    prefix_length = tf.where(keeps, tf.gather(gap_lengths, own), tf.cast(spaced, tf.int32))
    starts = tf.concat([slots.starts, copied.starts + tf.shape(text_bytes)[0]], axis=0)
    lengths = tf.concat([slots.lengths, copied.lengths], axis=0)
    segments = tf.reshape(tf.stack([prefix, tf.gather(starts, items)], axis=1), [-1])
    segment_lengths = tf.stack([prefix_length, tf.gather(lengths, items)], axis=1)
    ends = tf.gather(tf.concat([[0], of_slots + 1], axis=0), slots.row_splits)
    return to_texts(join_segments(table, segments, tf.reshape(segment_lengths, [-1]), 2 * ends))


def _original_gaps(slots: _Slots) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first byte of the gap before each slot, and its bytes."""
    starts = shift(slots.starts + slots.lengths, -1)
    return starts, slots.starts - starts


def _at_edge(slots: _Slots, items: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    return (items < count) & (tf.gather(slots.kinds, tf.minimum(items, count - 1)) == EDGE)


def _needs_space(
    slots: _Slots, copied: CopiedSpans, before: tf.Tensor, after: tf.Tensor, count: tf.Tensor
) -> tf.Tensor:
    """Returns whether a space stands between two neighbours, one of which is a span at least.

    A span that touched a word in the source touches what is beside it now. Another one stands
    apart from words, from an opening bracket behind it and from a sign such as a comma before it,
    unless it touched such a sign in the source, too. Spans that were neighbours stay as they were.
    """
    none = tf.zeros([1], tf.int32)  # There may be no span at all.

    def of_span(values: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.concat([values, none], axis=0), tf.maximum(items - count, 0))

    kind_before = tf.gather(slots.kinds, tf.minimum(before, count - 1))
    kind_after = tf.gather(slots.kinds, tf.minimum(after, count - 1))
    right, left = of_span(copied.right, before), of_span(copied.left, after)
    behind = ((kind_after == WORD) | (kind_after == OPENS)) & (right != WORD)
    behind &= ~((kind_after == OPENS) & (right == OPENS))
    ahead = ((kind_before == WORD) | (kind_before == CLOSES)) & (left != WORD)
    ahead &= ~((kind_before == CLOSES) & (left == CLOSES))
    follows = tf.where(after == before + 1, of_span(copied.follows, after), FAR)
    inner = (of_span(copied.tags, before) > 0) | (of_span(copied.tags, after) < 0)
    both = (follows == SPACED) | ((follows == FAR) & ~inner)
    return tf.where(before < count, ahead, tf.where(after < count, behind, both))
