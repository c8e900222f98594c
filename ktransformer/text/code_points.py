"""Texts as bytes and code points in a graph, with operations that LiteRT has, too.

LiteRT compares, cuts and joins no strings. These functions turn texts into integers, on which
everything else is arithmetic, and integers back into texts. Every byte of a text comes back, also
NUL and what is not UTF-8.
"""

from typing import NamedTuple

import tensorflow as tf
from tensorflow_text.python.ops import ngrams_op

from ktransformer.text.base_tokenizer import tensorflow_text

REPLACEMENT = 0xFFFD
"""The code point of bytes that are not UTF-8."""
_EMPTY = 256  # Place of the empty string behind those of the 256 bytes.
_WIDTH, _ROUNDS = 128, 4  # A text has at most 128 ** 4 bytes, which is 256 MiB.


class CodePoints(NamedTuple):
    """The characters of B texts, one text after the other.

    Attributes:
        points: Int32 `[N]`, a code point each; `REPLACEMENT` for bytes that are not UTF-8.
        starts: Int32 `[N]`, the place of its first byte among the bytes of all texts. A character
            extends to the next one's first byte, or to its text's end.
        row_splits: Int32 `[B + 1]`: text b has the characters from `row_splits[b]` to before
            `row_splits[b + 1]`.
    """

    points: tf.Tensor
    starts: tf.Tensor
    row_splits: tf.Tensor


def to_bytes(texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the bytes of texts `[B]`: ragged int32 `[B, (bytes)]`, with int32 row splits."""
    found = tensorflow_text.ByteSplitter().split(texts)
    return tf.RaggedTensor.from_row_splits(
        tf.cast(found.flat_values, tf.int32), tf.cast(found.row_splits, tf.int32), validate=False
    )


def to_code_points(text_bytes: tf.RaggedTensor) -> CodePoints:
    """Decodes UTF-8: ragged bytes `[B, (bytes)]`, as `to_bytes` returns them.

    A character begins at each byte that continues none, and at a text's first byte. One with
    another number of bytes than its first byte asks for is `REPLACEMENT`.
    """
    flat, splits = text_bytes.flat_values, text_bytes.row_splits
    count = tf.shape(flat)[0]
    at_text_start = count_at(splits[:-1], count + 1)[:count] > 0
    begins = at_text_start | (flat < 0x80) | (flat >= 0xC0)
    starts = tf.cast(tf.where(begins)[:, 0], tf.int32)  # [N]
    ends = tf.concat([starts[1:], tf.reshape(count, [1])], axis=0)
    padded = tf.concat([flat, tf.zeros([4], tf.int32)], axis=0)
    first, second, third, fourth = (tf.gather(padded, starts + i) for i in range(4))
    length = ends - starts
    points = tf.fill(tf.shape(starts), REPLACEMENT)
    points = tf.where((length == 1) & (first < 0x80), first, points)
    two = (first - 0xC0) * 0x40 + second - 0x80
    points = tf.where((length == 2) & (first >= 0xC2) & (first < 0xE0), two, points)
    three = ((first - 0xE0) * 0x40 + second - 0x80) * 0x40 + third - 0x80
    points = tf.where((length == 3) & (first >= 0xE0) & (first < 0xF0), three, points)
    four = (((first - 0xF0) * 0x40 + second - 0x80) * 0x40 + third - 0x80) * 0x40 + fourth - 0x80
    points = tf.where((length == 4) & (first >= 0xF0) & (first < 0xF5), four, points)
    before = tf.concat([[0], tf.cumsum(tf.cast(begins, tf.int32))], axis=0)  # [bytes + 1]
    return CodePoints(points, starts, tf.gather(before, splits))


def to_texts(text_bytes: tf.RaggedTensor) -> tf.Tensor:
    """Returns the texts `[B]` of bytes: ragged int32 `[B, (bytes)]`, at most 256 MiB each."""
    table = tf.constant([bytes([i]) for i in range(_EMPTY)] + [b""])
    # One more text, which is empty: its string fills the places that a row leaves.
    splits = tf.concat([text_bytes.row_splits, text_bytes.row_splits[-1:]], axis=0)
    strings = tf.gather(table, tf.concat([text_bytes.flat_values, [_EMPTY]], axis=0))
    for _ in range(_ROUNDS):
        strings, splits = _join_runs(strings, splits)
    return tf.gather(strings, tf.range(tf.shape(splits)[0] - 2))


def _join_runs(strings: tf.Tensor, splits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Joins every `_WIDTH` strings of each row, at least one run a row.

    The last string must be empty and belong to no row, or to the last, which has no other.
    """
    lengths = splits[1:] - splits[:-1]
    runs = tf.maximum((lengths + _WIDTH - 1) // _WIDTH, 1)  # [B]
    new_splits = tf.concat([[0], tf.cumsum(runs)], axis=0)
    row = row_ids(new_splits)  # [runs]
    place = tf.range(tf.shape(row)[0]) - tf.gather(new_splits, row)  # The run's, in its row.
    first = tf.gather(splits, row) + place * _WIDTH
    places = tf.expand_dims(first, 1) + tf.range(_WIDTH)  # [runs, _WIDTH]
    inside = places < tf.expand_dims(tf.gather(splits, row + 1), 1)
    places = tf.where(inside, places, tf.shape(strings)[0] - 1)
    # The ragged kernel: the dense one crashes TensorFlow.
    strings = tf.gather(strings, tf.reshape(places, [-1]))
    runs_of_width = tf.range(tf.shape(row, tf.int64)[0] + 1) * _WIDTH
    # The operation itself: `tensorflow_text.ngrams` also builds windows that it does not use, with
    # 500 functions of checks, which take ten times as long to trace as a search.
    joined, _ = ngrams_op.gen_ngrams_op.tf_text_ngrams_string_join(
        input_values=strings,
        input_row_splits=[runs_of_width],
        width=_WIDTH,
        axis=-1,
        string_separator="",
    )
    return tf.gather(joined, tf.range(tf.shape(row)[0])), new_splits


def join_segments(
    source: tf.Tensor, starts: tf.Tensor, lengths: tf.Tensor, row_splits: tf.Tensor
) -> tf.RaggedTensor:
    """Joins segments of bytes into texts.

    Args:
        source: Int32 `[N]`, bytes.
        starts: Int32 `[M]`, the place of the first byte of each segment.
        lengths: Int32 `[M]`, its bytes.
        row_splits: Int32 `[B + 1]`, the segments of each text.

    Returns:
        Ragged int32 `[B, (bytes)]`.
    """
    splits = tf.concat([[0], tf.cumsum(lengths)], axis=0)
    segment = row_ids(splits)
    place = tf.gather(starts - splits[:-1], segment) + tf.range(tf.shape(segment)[0])
    return tf.RaggedTensor.from_row_splits(
        tf.gather(source, place), tf.gather(splits, row_splits), validate=False
    )


def slice_texts(texts: tf.Tensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> tf.Tensor:
    """Cuts pieces from texts `[B]`.

    Args:
        texts: The texts.
        starts: Ragged int32 `[B, (pieces)]`, the first byte of each piece, within its text.
        ends: Ragged int32, alike, the byte behind its last.

    Returns:
        The pieces, string `[M]`, one text's after the other's.
    """
    splits = tf.cast(starts.row_splits, tf.int64)
    found = tensorflow_text.ByteSplitter().split_by_offsets(
        texts,
        tf.RaggedTensor.from_row_splits(starts.flat_values, splits, validate=False),
        tf.RaggedTensor.from_row_splits(ends.flat_values, splits, validate=False),
    )
    # LiteRT does not size the output by the pieces; the gather does.
    return tf.gather(found.flat_values, tf.range(tf.shape(starts.flat_values)[0]))


def row_ids(row_splits: tf.Tensor) -> tf.Tensor:
    """Returns the row of each element of a ragged tensor: `[B + 1]` -> int32 `[N]`."""
    marks = count_at(row_splits[1:-1], row_splits[-1] + 1)
    return tf.cumsum(marks)[:-1]


def count_at(places: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns how often each place below `size` occurs: int32 `[M]` -> int32 `[size]`."""
    return tf.scatter_nd(tf.expand_dims(places, 1), tf.ones_like(places), tf.reshape(size, [1]))
