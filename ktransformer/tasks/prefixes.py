"""Prefixes of translations in a graph: their tokens, and their very bytes in the texts."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.text import BaseTokenizer
from ktransformer.text.character_classes import CharacterClass, character_classes, is_one_of
from ktransformer.text.code_points import row_ids, to_bytes, to_code_points, to_texts
from ktransformer.text.piece_model import SPACE


class Prefixes(NamedTuple):
    """The tokens that B translations begin with.

    Attributes:
        ids: Int32 `[B, P]`, padded at the end.
        lengths: Int32 `[B]`.
        ends_word: Boolean `[B]`, whether white space ends the prefix, so that a word must follow.
        truncated: Boolean `[B]`, whether it has more tokens than a translation may have.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    ends_word: tf.Tensor
    truncated: tf.Tensor

    def join(self, ids: tf.Tensor, pad: int) -> tf.Tensor:
        """Puts the prefixes before ids: `[B, K, T] -> [B, K, P + T]`."""
        k, width = tf.shape(ids)[1], tf.shape(self.ids)[1]
        more = tf.pad(ids, [[0, 0], [0, 0], [0, 1]], constant_values=pad)
        both = tf.concat([tf.repeat(self.ids[:, None], k, axis=1), more], axis=2)
        length = self.lengths[:, None]
        steps = tf.range(width + tf.shape(ids)[2])
        places = tf.where(steps < length, steps, width + steps - length)
        places = tf.minimum(places, tf.shape(both)[2] - 1)  # [B, P + T]
        return tf.gather(both, tf.repeat(places[:, None], k, axis=1), batch_dims=2)


def read_prefixes(tokenizer: BaseTokenizer, texts: tf.Tensor, limit: int) -> Prefixes:
    """Encodes prefixes `[B]`, each cut so that it and an end token have `limit` tokens."""
    special = tokenizer.special_ids
    ids, truncated = tokenizer.encode_dense(texts, limit)
    lengths = tf.reduce_sum(tf.cast(ids != special.pad, tf.int32), axis=1) - 1
    ids = tf.where(tf.range(tf.shape(ids)[1]) < lengths[:, None], ids, special.pad)
    found = to_code_points(to_bytes(texts))
    points = tf.concat([[0], found.points], axis=0)
    last = character_classes(tf.gather(points, found.row_splits[1:]))
    ends_word = is_one_of(last, CharacterClass.SPACE, CharacterClass.LINE_BREAK) & (lengths > 0)
    return Prefixes(ids, lengths, ends_word, truncated)


def restore_prefixes(
    tokenizer: BaseTokenizer, texts: tf.Tensor, given: tf.Tensor, prefixes: Prefixes
) -> tf.Tensor:
    """Replaces the normalised prefixes of texts `[B, K]` by those that were given, `[B]`.

    Where a given prefix ends with white space, the space after it is left out.
    """
    given_bytes = to_bytes(given)

    def restore() -> tf.Tensor:
        k = tf.shape(texts)[1]
        kept = to_bytes(tf.reshape(texts, [-1]))
        known = to_bytes(tokenizer.decode(prefixes.ids)).row_lengths()
        before = tf.repeat(given_bytes.row_lengths(), k)  # [B * K]
        skipped = tf.repeat(known, k)
        spaces = tf.concat([kept.flat_values, [0]], axis=0)
        starts = kept.row_splits[:-1] + tf.minimum(skipped, kept.row_lengths())
        is_space = (tf.gather(spaces, starts) == 32) & tf.repeat(prefixes.ends_word, k)
        starts = tf.minimum(starts + tf.cast(is_space, tf.int32), kept.row_splits[1:])
        lengths = before + kept.row_splits[1:] - starts
        splits = tf.concat([[0], tf.cumsum(lengths)], axis=0)
        row = row_ids(splits)
        place = tf.range(tf.shape(row)[0]) - tf.gather(splits, row)
        in_prefix = tf.gather(tf.repeat(given_bytes.row_splits[:-1], k), row) + place
        behind = tf.gather(starts, row) + place - tf.gather(before, row)
        both = tf.concat([given_bytes.flat_values, kept.flat_values], axis=0)
        behind += tf.shape(given_bytes.flat_values)[0]
        places = tf.where(place < tf.gather(before, row), in_prefix, behind)
        joined = tf.RaggedTensor.from_row_splits(tf.gather(both, places), splits, validate=False)
        return tf.reshape(to_texts(joined), tf.shape(texts))

    return tf.cond(tf.size(given_bytes.flat_values) > 0, restore, lambda: texts)


def begins_word(tokenizer: BaseTokenizer) -> np.ndarray:
    """Tells which pieces begin a word, the end token among them: boolean `[V]`."""
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    begins = np.array([piece.startswith(SPACE) for piece in pieces])
    if not begins.any():  # Another kind of tokenizer: any piece may follow.
        begins[:] = True
    begins[tokenizer.special_ids.end] = True
    return begins
