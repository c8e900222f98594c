"""Label-smoothed cross-entropy of each position, from logits, and the weights of a mean of it."""

from typing import Any

from keras import ops


def smoothed_cross_entropy(labels: Any, logits: Any, label_smoothing: float = 0.0) -> Any:
    """Computes each position's cross-entropy against a smoothed one-hot distribution.

    The target distribution is `(1 - e) * one_hot(label) + e / V`. A custom gradient avoids storing
    the distribution and the log-probabilities, both `[B, T, V]`.

    Args:
        labels: Int tensor `[B, T]`.
        logits: Float tensor `[B, T, V]`.
        label_smoothing: e, in [0, 1).

    Returns:
        Float32 tensor `[B, T]`, in nats.

    Reference: Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4.
    """
    vocabulary_size = logits.shape[-1]
    confidence = 1.0 - label_smoothing
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))  # [N], N = B * T
    positions = ops.stack([ops.arange(ops.shape(labels)[0], dtype="int32"), labels], axis=1)

    @ops.custom_gradient
    def losses(flat_logits: Any) -> Any:
        highest = ops.max(flat_logits, axis=-1)  # [N]
        exponentials = ops.exp(flat_logits - highest[:, None])  # Kept for the gradient.
        totals = ops.sum(exponentials, axis=-1)
        label_logits = ops.take_along_axis(flat_logits, labels[:, None], axis=-1)[:, 0]
        values = highest + ops.log(totals) - confidence * label_logits
        if label_smoothing:
            values = values - label_smoothing * ops.mean(flat_logits, axis=-1)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            upstream = arguments[0] if upstream is None else upstream
            floor = label_smoothing / vocabulary_size
            scale = upstream / totals
            dense = exponentials * scale[:, None] - (floor * upstream)[:, None]
            at_labels = ops.exp(label_logits - highest) * scale - (floor + confidence) * upstream
            return ops.scatter_update(dense, positions, at_labels)

        return values, gradient

    flat_logits = ops.cast(ops.reshape(logits, (-1, vocabulary_size)), "float32")
    return ops.reshape(losses(flat_logits), ops.shape(logits)[:-1])


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
