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
        log_total = ops.logsumexp(flat_logits, axis=-1)  # [N]
        label_logits = ops.take_along_axis(flat_logits, labels[:, None], axis=-1)[:, 0]
        values = log_total - confidence * label_logits
        if label_smoothing:
            values = values - label_smoothing * ops.mean(flat_logits, axis=-1)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            upstream = arguments[0] if upstream is None else upstream
            floor = label_smoothing / vocabulary_size
            dense = (ops.exp(flat_logits - log_total[:, None]) - floor) * upstream[:, None]
            at_labels = ops.exp(label_logits - log_total) - floor - confidence
            return ops.scatter_update(dense, positions, at_labels * upstream)

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
        return ops.sum(losses * weights) / ops.maximum(self.total_weight(weights), 1.0)

    def total_weight(self, weights: Any) -> Any:
        """Returns what the sum of the losses is divided by, from `weights`, float `[B, T]`.

        A subclass overrides it where `weights` are of a part of the batch alone.
        """
        return ops.sum(weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return smoothed_cross_entropy(y_true, y_pred, self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        return {
            "label_smoothing": self.label_smoothing,
            "pad_id": self.pad_id,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="ktransformer")
class RDrop(SmoothedCrossEntropy):
    """Label-smoothed cross-entropy of two passes, and how far dropout drives them apart.

    A batch holds its rows twice, the second time in its second half (`TokenBatches(copies=2)`), so
    that one pass of the model is two with different dropout. To the mean cross-entropy comes
    alpha / 2 times the mean of the two Kullback-Leibler divergences, per real token.

    Args:
        label_smoothing: Probability mass spread evenly over the vocabulary, in [0, 1).
        alpha: Weight of the divergence, at least 0; the paper's is 5.
        pad_id: The label that marks padding.
        name: Name of the loss.

    Call arguments:
        y_true: Int tensor `[2B, T]`, the second half equal to the first.
        y_pred: Logits `[2B, T, V]`.

    Returns:
        A float32 scalar, in nats per token.

    Raises:
        ValueError: `label_smoothing` is not in [0, 1), or `alpha` is below 0.

    Masking: by the labels alone.

    Reference: Liang et al. 2021, equations 2 to 4, divided by 2.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        *,
        alpha: float = 5.0,
        pad_id: int = 0,
        name: str = "r_drop",
    ) -> None:
        super().__init__(label_smoothing, pad_id=pad_id, name=name)
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0; got alpha={alpha}.")
        self.alpha = alpha

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        """Returns the mean over real tokens, each counted by its `sample_weight` if given."""
        loss = super().__call__(y_true, y_pred, sample_weight)
        weights = ops.split(token_weights(y_true, self.pad_id, sample_weight), 2)[0]
        first, second = ops.split(ops.log_softmax(ops.cast(y_pred, "float32")), 2)
        # KL(p, q) + KL(q, p), of each token.
        divergences = ops.sum((ops.exp(first) - ops.exp(second)) * (first - second), axis=-1)
        divergence = ops.sum(divergences * weights) / ops.maximum(ops.sum(weights), 1.0)
        return loss + self.alpha / 4 * divergence

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


def token_weights(labels: Any, pad_id: int, sample_weight: Any | None = None) -> Any:
    """Weighs each label: 0 for padding, else its sample weight or 1; float32 `[B, T]`."""
    weights = ops.cast(ops.not_equal(labels, pad_id), "float32")
    if sample_weight is None:
        return weights
    sample_weight = ops.cast(sample_weight, "float32")
    if len(sample_weight.shape) == 1:  # One weight a sentence.
        sample_weight = sample_weight[:, None]
    return weights * sample_weight
