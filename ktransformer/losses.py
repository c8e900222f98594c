"""The training loss: label-smoothed cross-entropy per real token."""

from typing import Any

import keras
from keras import ops


def smoothed_cross_entropy(labels: Any, logits: Any, label_smoothing: float = 0.0) -> Any:
    """Computes each position's cross-entropy against a smoothed one-hot distribution.

    The target distribution is `(1 - e) * one_hot(label) + e / V`. The gradient is written out,
    so that neither the distribution nor the log-probabilities, both `[B, T, V]`, are ever made.

    Args:
        labels: Int tensor `[B, T]`.
        logits: Float tensor `[B, T, V]`.
        label_smoothing: e, in [0, 1).

    Returns:
        Float32 tensor `[B, T]`.

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


@keras.saving.register_keras_serializable(package="ktransformer")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Label-smoothed cross-entropy, averaged over the real tokens of a batch.

    Padded labels count neither in the sum nor in the number of tokens it is divided by.

    Args:
        label_smoothing: Probability mass spread evenly over the vocabulary, in [0, 1).
        pad_id: The label that marks padding.
        name: Name of the loss.

    Call arguments:
        y_true: Int tensor `[B, T]`.
        y_pred: Logits `[B, T, V]`.

    Returns:
        A float32 scalar, in nats per token.

    Raises:
        ValueError: `label_smoothing` is not in [0, 1).

    Masking: by the labels alone; a mask that the logits carry is ignored.

    Reference: Vaswani et al. 2017, section 5.4.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        *,
        pad_id: int = 0,
        name: str = "smoothed_cross_entropy",
    ) -> None:
        super().__init__(name=name)
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing must be in [0, 1); got label_smoothing={label_smoothing}."
            )
        self.label_smoothing = label_smoothing
        self.pad_id = pad_id

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        """Returns the mean over real tokens, each counted by its `sample_weight` if given."""
        losses = smoothed_cross_entropy(y_true, y_pred, self.label_smoothing)
        weights = token_weights(y_true, self.pad_id, sample_weight)
        return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1.0)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return smoothed_cross_entropy(y_true, y_pred, self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        return {
            "label_smoothing": self.label_smoothing,
            "pad_id": self.pad_id,
            "name": self.name,
        }


def token_weights(labels: Any, pad_id: int, sample_weight: Any | None = None) -> Any:
    """Weighs each label: 0 for padding, else its sample weight or 1; float32 `[B, T]`."""
    weights = ops.cast(ops.not_equal(labels, pad_id), "float32")
    if sample_weight is None:
        return weights
    sample_weight = ops.cast(sample_weight, "float32")
    if len(sample_weight.shape) == 1:  # One weight a sentence.
        sample_weight = sample_weight[:, None]
    return weights * sample_weight
