"""Whole documents in a graph: their sentences translated in batches, all else kept as it is."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from ktransformer.text import BaseTokenizer
from ktransformer.text.code_points import (
    CodePoints,
    count_at,
    row_ids,
    slice_texts,
    to_bytes,
    to_code_points,
    to_texts,
)
from ktransformer.text.parts import Parts, break_levels, cut_long, cut_sentences
from ktransformer.text.sentences import find_sentences

Outputs = dict[str, tf.Tensor]
MAX_SENTENCES = 32  # Of a batch,
MAX_TOKENS = 8192  # which has at most so many, padding included; a longer sentence is alone.


class Units(NamedTuple):
    """The sentences and parts of sentences of B documents that are translated by themselves.

    Attributes:
        texts: String `[M]`.
        tokens: Int32 `[M]`.
        broken: Boolean `[M]`, which are parts of a longer sentence.
        starts: Int32 `[M]`, the first byte of each among those of all documents.
        ends: Int32 `[M]`, the byte behind its last.
        row_splits: Int32 `[B + 1]`.
    """

    texts: tf.Tensor
    tokens: tf.Tensor
    broken: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    row_splits: tf.Tensor


def translate_documents(
    documents: tf.Tensor,
    translate: Callable[[tf.Tensor], Outputs],
    count_tokens: Callable[[tf.Tensor], tf.Tensor],
    *,
    max_tokens: int,
    least_tokens: int,
) -> Outputs:
    """Translates the sentences of documents, in batches of like length; keeps all other bytes.

    A sentence of more than `max_tokens` is cut in two until no part has more: behind a clause, at
    white space where there is none, or anywhere, as near to the middle as can be. Control
    characters, NUL among them, and bytes that are not UTF-8 separate sentences. A sentence without
    a token comes back as it is.

    Args:
        documents: String `[B]`.
        translate: Turns texts `[N]` into `text` `[N]`, `score` `[N]` and `truncated` `[N]`.
        count_tokens: Counts the tokens of texts: `[N]` -> int32 `[N]`.
        max_tokens: The most tokens that `translate` reads of a text.
        least_tokens: The tokens of an empty text.

    Returns:
        `text`, string `[B]`; `truncated`, boolean `[B]`, whether a single character had more tokens
        than `max_tokens`. Of the M sentences of all documents: `source_starts`, `source_ends`,
        `target_starts` and `target_ends`, int32 `[M]`, bytes of their own document and of its
        translation; `scores`, float32 `[M]`; `broken`, boolean `[M]`, whether it is a part of a
        longer sentence; and `row_splits`, int32 `[B + 1]`: document b has the sentences from
        `row_splits[b]` to before `row_splits[b + 1]`.
    """
    source = to_bytes(documents)
    units = find_units(
        documents, source, count_tokens, max_tokens=max_tokens, least_tokens=least_tokens
    )
    target, scores, truncated = _translate_units(units, translate)
    replaced = _replace(source, units, target)
    rows = row_ids(units.row_splits)
    target_first = tf.gather(replaced.text.row_splits, rows)
    cut = tf.gather(rows, tf.where(truncated)[:, 0])
    return {
        "text": to_texts(replaced.text),
        "truncated": count_at(cut, tf.shape(documents)[0]) > 0,
        "target_starts": replaced.starts - target_first,
        "target_ends": replaced.ends - target_first,
        "scores": scores,
        **_places(source, units),
    }


def locate_sentences(
    documents: tf.Tensor,
    count_tokens: Callable[[tf.Tensor], tf.Tensor],
    *,
    max_tokens: int | tf.Tensor,
    least_tokens: int,
) -> Outputs:
    """Finds the sentences that `translate_documents` translates, and translates none.

    Args:
        documents: String `[B]`.
        count_tokens: See `translate_documents`.
        max_tokens: Likewise; may be a scalar tensor.
        least_tokens: Likewise.

    Returns:
        `source_starts`, `source_ends`, `broken` and `row_splits` as of `translate_documents`, and
        `tokens`, int32 `[M]`.
    """
    source = to_bytes(documents)
    units = find_units(
        documents, source, count_tokens, max_tokens=max_tokens, least_tokens=least_tokens
    )
    return {"tokens": units.tokens, **_places(source, units)}


def count_pieces(tokenizer: BaseTokenizer, texts: tf.Tensor, language: int | None) -> tf.Tensor:
    """Counts the tokens of texts `[N]`, with the end token and that of a language: int32 `[N]`."""
    splits = tf.cast(tokenizer.encode(texts).row_splits, tf.int32)
    return splits[1:] - splits[:-1] + least_tokens(language) - 1


def least_tokens(language: int | None) -> int:
    """Returns the tokens of an empty text: the end token and that of a language, if any."""
    return 1 if language is None else 2


def _places(source: tf.RaggedTensor, units: Units) -> Outputs:
    """Returns where the units are in their documents."""
    first = tf.gather(source.row_splits, row_ids(units.row_splits))
    return {
        "source_starts": units.starts - first,
        "source_ends": units.ends - first,
        "broken": units.broken,
        "row_splits": units.row_splits,
    }


def find_units(
    documents: tf.Tensor,
    source: tf.RaggedTensor,
    count_tokens: Callable[[tf.Tensor], tf.Tensor],
    *,
    max_tokens: int | tf.Tensor,
    least_tokens: int,
) -> Units:
    """Finds the sentences of documents `[B]` and cuts those that are too long.

    Args:
        documents: The documents.
        source: Their bytes, as `to_bytes` returns them.
        count_tokens: See `translate_documents`.
        max_tokens: Likewise.
        least_tokens: Likewise.
    """
    points = to_code_points(source)
    natural = cut_sentences(points, find_sentences(points))
    levels = break_levels(points)

    def cut(
        before: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, tokens: tf.Tensor, again: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        cuts = natural._replace(before=before)
        parts = cuts.parts()
        tokens = count_tokens(_texts_of(documents, source, points, parts))
        cuts, again = cut_long(cuts, levels, parts, tokens > max_tokens)
        return cuts.before, *parts, tokens, again

    none = tf.zeros([0], tf.int32)
    _, starts, ends, tokens, _ = tf.while_loop(
        lambda *state: state[-1],
        cut,
        (natural.before, none, none, none, tf.constant(True)),
        shape_invariants=(
            natural.before.shape,
            *[tf.TensorShape([None])] * 3,
            tf.TensorShape([]),
        ),
        parallel_iterations=1,
    )
    kept = tf.where(tokens > least_tokens)[:, 0]
    starts, ends, tokens = (tf.gather(each, kept) for each in (starts, ends, tokens))
    whole = tf.gather(tf.cumsum(tf.cast(natural.before, tf.int32)), starts)
    same = tf.concat([[-1], whole], axis=0) == tf.concat([whole, [-1]], axis=0)
    count = tf.shape(whole)[0]
    parts = Parts(starts, ends)
    return Units(
        _texts_of(documents, source, points, parts),
        tokens,
        (same[:count] | same[1:]) & (count > 0),
        *_bytes_of(source, points, parts),
        _row_splits(points, parts),
    )


def _texts_of(
    documents: tf.Tensor, source: tf.RaggedTensor, points: CodePoints, parts: Parts
) -> tf.Tensor:
    splits = _row_splits(points, parts)
    first = tf.gather(source.row_splits, row_ids(splits))
    starts, ends = (
        tf.RaggedTensor.from_row_splits(places - first, splits, validate=False)
        for places in _bytes_of(source, points, parts)
    )
    return slice_texts(documents, starts, ends)


def _bytes_of(
    source: tf.RaggedTensor, points: CodePoints, parts: Parts
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first byte of each part, and the one behind its last."""
    places = tf.concat([points.starts, tf.shape(source.flat_values)], axis=0)
    return tf.gather(places, parts.starts), tf.gather(places, parts.ends)


def _row_splits(points: CodePoints, parts: Parts) -> tf.Tensor:
    """Returns the row splits of parts, of which each belongs to one text."""
    return _count_before(parts.starts, points.row_splits, tf.shape(points.points)[0])


def _count_before(places: tf.Tensor, limits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Counts the places below each limit; all are below `size`, or equal it."""
    counts = tf.concat([[0], tf.cumsum(count_at(places, size + 1))], axis=0)
    return tf.gather(counts, limits)


def _translate_units(
    units: Units, translate: Callable[[tf.Tensor], Outputs]
) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
    """Returns the bytes of the translations, their scores, and which texts were cut."""
    order = tf.argsort(units.tokens, direction="DESCENDING")
    count = tf.shape(order)[0]

    def run(done: tf.Tensor, *found: tf.Tensor) -> tuple[tf.Tensor, ...]:
        longest = tf.gather(units.tokens, tf.gather(order, done))
        size = tf.clip_by_value(MAX_TOKENS // longest, 1, MAX_SENTENCES)
        chosen = order[done : done + size]
        outputs = translate(tf.gather(units.texts, chosen))
        text = to_bytes(outputs["text"])
        new = (
            text.flat_values,
            text.row_splits[1:] - text.row_splits[:-1],
            outputs["score"],
            tf.cast(outputs["truncated"], tf.int32),
        )
        joined = (tf.concat(pair, axis=0) for pair in zip(found, new, strict=True))
        return done + tf.shape(chosen)[0], *joined

    ints, floats = tf.zeros([0], tf.int32), tf.zeros([0], tf.float32)
    _, flat, lengths, scores, truncated = tf.while_loop(
        lambda done, *_: done < count,
        run,
        (tf.constant(0), ints, ints, floats, ints),
        shape_invariants=(tf.TensorShape([]), *[tf.TensorShape([None])] * 4),
        parallel_iterations=1,
    )
    starts = tf.cumsum(lengths, exclusive=True)
    # Where each unit stands among the sorted ones.
    places = tf.scatter_nd(order[:, None], tf.range(count), tf.reshape(count, [1]))
    lengths, starts = tf.gather(lengths, places), tf.gather(starts, places)
    splits = tf.concat([[0], tf.cumsum(lengths)], axis=0)
    rows = row_ids(splits)
    from_sorted = tf.range(tf.shape(rows)[0]) + tf.gather(starts - splits[:-1], rows)
    texts = tf.RaggedTensor.from_row_splits(tf.gather(flat, from_sorted), splits, validate=False)
    return texts, tf.gather(scores, places), tf.gather(truncated, places) > 0


class _Replaced(NamedTuple):
    """Documents with other texts for their units.

    Attributes:
        text: Their bytes, ragged int32 `[B, (bytes)]`.
        starts: Int32 `[M]`, the first byte of each new text among those of all documents.
        ends: Int32 `[M]`, the byte behind its last.
    """

    text: tf.RaggedTensor
    starts: tf.Tensor
    ends: tf.Tensor


def _replace(source: tf.RaggedTensor, units: Units, target: tf.RaggedTensor) -> _Replaced:
    """Puts the texts `target`, ragged bytes `[M, (bytes)]`, in the places of the units."""
    size = tf.shape(source.flat_values)[0]
    old, new = units.ends - units.starts, target.row_splits[1:] - target.row_splits[:-1]
    growth = tf.concat([[0], tf.cumsum(new - old)], axis=0)  # [M + 1], before each unit.
    starts = units.starts + growth[:-1]
    opened = count_at(units.starts, size + 1) - count_at(units.ends, size + 1)
    kept = tf.cast(tf.where(tf.cumsum(opened)[:-1] == 0)[:, 0], tf.int32)
    moved = kept + tf.gather(growth, _count_before(units.ends - 1, kept, size))
    rows = row_ids(target.row_splits)
    written = tf.gather(starts - target.row_splits[:-1], rows) + tf.range(tf.shape(rows)[0])
    values = tf.concat([tf.gather(source.flat_values, kept), target.flat_values], axis=0)
    places = tf.concat([moved, written], axis=0)
    flat = tf.scatter_nd(places[:, None], values, tf.shape(values))
    splits = source.row_splits + tf.gather(growth, units.row_splits)
    text = tf.RaggedTensor.from_row_splits(flat, splits, validate=False)
    return _Replaced(text, starts, starts + new)
