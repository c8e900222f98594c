"""Weights of the tokens of a batch: padding does not count."""

from typing import Any

from keras import ops


def token_weights(labels: Any, pad_id: int, sample_weight: Any | None = None) -> Any:
    """Returns each label's weight in a mean over tokens.

    Args:
        labels: Int tensor `[B, T]`.
        pad_id: The label that marks padding.
        sample_weight: Float tensor `[B, T]`, or `[B]` for a weight a sentence; None for 1.

    Returns:
        Float32 tensor `[B, T]`: 0 for padding, else the sample weight.
    """
    weights = ops.cast(ops.not_equal(labels, pad_id), "float32")
    if sample_weight is None:
        return weights
    sample_weight = ops.cast(sample_weight, "float32")
    if len(sample_weight.shape) == 1:
        sample_weight = sample_weight[:, None]
    return weights * sample_weight


def one_if_zero(total: Any) -> Any:
    """Returns a total to divide by, with 1 in place of 0."""
    return ops.where(ops.equal(total, 0.0), 1.0, total)
