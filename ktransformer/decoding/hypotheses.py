"""The arguments and the result that all searches share."""

from typing import NamedTuple

import tensorflow as tf

# A log-probability that no sequence reaches. Finite, because -inf - -inf is not a number.
IMPOSSIBLE = -1e9


class SpecialIds(NamedTuple):
    """The ids that a search needs to know.

    Attributes:
        start: Fed at position 0.
        end: Ends a hypothesis.
        pad: Fills a hypothesis after its end.
        suppressed: Never chosen; `pad` and `start` should be among them.
    """

    start: int
    end: int
    pad: int
    suppressed: tuple[int, ...] = ()


class Hypotheses(NamedTuple):
    """The K best target sequences found for each of B sentences, best first.

    Attributes:
        ids: Int32 `[B, K, T]`, without the start token and a forced prefix, with the end token,
            then padding.
        scores: Float32 `[B, K]`, log-probability / length ** exponent of the length penalty, or
            what the rules that score make of the log-probability. Rules that change logits may
            rank by other scores. Where fewer than K sequences exist, the rest are padding alone
            with a score of -1e9.
        lengths: Int32 `[B, K]`, in tokens, the end token included, a forced prefix not.
        log_probabilities: Float32 `[B, K]`, the model's own; -1e9 like `scores`.
    """

    ids: tf.Tensor
    scores: tf.Tensor
    lengths: tf.Tensor
    log_probabilities: tf.Tensor


def length_limits(
    source_lengths: tf.Tensor, *, ratio: float, offset: int, maximum: int
) -> tf.Tensor:
    """Limits each target by its own source, so that no sentence depends on its batch.

    Args:
        source_lengths: Int32 `[B]`, in tokens.
        ratio: Target tokens allowed for each source token.
        offset: Target tokens allowed beyond that.
        maximum: The most target tokens in any case.

    Returns:
        Int32 `[B]`, the end token included, at least 1.
    """
    relative = tf.cast(source_lengths, tf.float32) * ratio + float(offset)
    return tf.maximum(tf.cast(tf.minimum(relative, float(maximum)), tf.int32), 1)


def number_positions(rows: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns 0, 1, ... in each row: int32 `[rows, length]`.

    For `write_token`. A `tf.range` in a loop has a size that LiteRT learns when it runs, so that it
    would plan its memory anew at every step.
    """
    return tf.zeros([rows, 1], tf.int32) + tf.range(length)


def write_token(
    ids: tf.Tensor, positions: tf.Tensor, index: tf.Tensor, tokens: tf.Tensor
) -> tf.Tensor:
    """Replaces `ids[..., index]`: `[..., T]`, with `positions` of like shape and tokens `[...]`."""
    return tf.where(positions == index, tf.expand_dims(tokens, -1), ids)
