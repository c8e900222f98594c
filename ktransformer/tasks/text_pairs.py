"""Pairs of texts as one sequence of ids, with a token type for each of the two."""

import tensorflow as tf

from ktransformer.text import BaseTokenizer


def encode_pairs(
    tokenizer: BaseTokenizer, first: tf.Tensor, second: tf.Tensor, limit: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Turns pairs of texts into ids of at most `limit` tokens a pair; runs in a graph.

    Both texts have an end token, and only the first has a start token.

    Args:
        tokenizer: The tokenizer.
        first: String tensor `[B]`.
        second: String tensor `[B]`.
        limit: The most tokens of a pair, at least 4. A pair that is longer is cut as
            `cut_longest_first` says.

    Returns:
        Int32 `[B, S]`, the ids, padded; int32 `[B, S]`, 1 at the second text's tokens; and boolean
        `[B]`, which pairs were cut.

    Reference: Devlin et al. 2019, section 3, figure 2.
    """
    start, special = int(tokenizer.adds_start), tokenizer.special_ids
    left, right = tokenizer.encode(first), tokenizer.encode(second)
    one, two = _lengths(left), _lengths(right) - start
    most = limit - 2 - start
    kept, other = cut_longest_first(one - 1 - start, two - 1, most)
    truncated = kept + other < one + two - 2 - start
    ends, totals = kept[:, None] + start, (kept + other)[:, None] + start + 1  # Of the two texts.
    places = tf.range(tf.reduce_max(tf.concat([totals[:, 0], [0]], axis=0)) + 1)  # [S]
    behind = places - ends - 1 + start  # Within the second text, its start token aside.
    ids = tf.where(places < ends, _take(left, places), _take(right, behind))
    ids = tf.where((places == ends) | (places == totals), special.end, ids)
    # Not a cast of a comparison: LiteRT folds what Keras compares it with, and fails.
    types = tf.clip_by_value(places - ends, 0, 1) * tf.clip_by_value(totals + 1 - places, 0, 1)
    return tf.where(places <= totals, ids, special.pad), types, truncated


def cut_longest_first(
    first: tf.Tensor, second: tf.Tensor, most: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how many tokens stay of each text of a pair, at most `most` together.

    The longer text is cut down to the length of the shorter before both are cut.

    Args:
        first: Int32 tensor `[B]`, the tokens of the first texts.
        second: The same of the second texts.
        most: The most tokens of both.
    """
    shorter, longer = tf.minimum(first, second), tf.maximum(first, second)
    longer = tf.minimum(longer, tf.maximum(shorter, most - shorter))
    both = shorter + longer > most
    shorter = tf.where(both, most // 2, shorter)
    longer = tf.where(both, most - most // 2, longer)
    swapped = first > second
    return tf.where(swapped, longer, shorter), tf.where(swapped, shorter, longer)


def _lengths(tokens: tf.RaggedTensor) -> tf.Tensor:
    splits = tf.cast(tokens.row_splits, tf.int32)
    return splits[1:] - splits[:-1]


def _take(tokens: tf.RaggedTensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the ids at places `[S]` or `[B, S]` of each text; any id beyond its end."""
    starts = tf.cast(tokens.row_splits, tf.int32)[:-1, None]
    last = tf.size(tokens.flat_values) - 1
    return tf.gather(tokens.flat_values, tf.clip_by_value(starts + places, 0, last))
