"""The loss of guided alignment, and the attention weights that align a target with its source."""

from typing import Any

from keras import ops

from ktransformer.losses.cross_entropy import one_if_zero


def alignment_weights(attention: Any, heads: int | None = None, *, shifted: bool = False) -> Any:
    """Returns the mean attention weights of each label.

    A label is predicted at its own position of the decoder and read at the next one.

    Args:
        attention: Float tensor `[B, H, T, S]`, cross-attention weights.
        heads: The first so many heads; None for all.
        shifted: Whether to return the weights of the position that reads a label, where its own
            content looks for its source, in place of those that predict it. Nothing reads the
            label of the last position, which keeps its own.

    Returns:
        Float32 tensor `[B, T, S]`.

    Reference: Chen et al. 2020, "Accurate Word Alignment Induction from Neural Machine
        Translation", section 3 (shifted).
    """
    attention = attention if heads is None else attention[:, :heads]
    weights = ops.mean(ops.cast(attention, "float32"), axis=1)
    return ops.concatenate([weights[:, 1:], weights[:, -1:]], axis=1) if shifted else weights


def guided_alignment_loss(alignment: Any, weights: Any) -> Any:
    """Returns the cross-entropy of attention weights against an alignment.

    Args:
        alignment: Float tensor `[B, T, S]`: the probability that a target token comes from a source
            token; rows of zeros do not count.
        weights: Float32 tensor `[B, T, S]`, as `alignment_weights` returns them.

    Returns:
        A float32 scalar, in nats: the mean over the aligned target tokens.

    Reference: Chen et al. 2016, "Guided Alignment Training for Topic-Aware Neural Machine
        Translation", equation 5; Garg et al. 2019, section 4.2.
    """
    alignment = ops.cast(alignment, "float32")
    total = one_if_zero(ops.sum(alignment))
    return -ops.sum(alignment * ops.log(ops.maximum(weights, 1e-9))) / total
