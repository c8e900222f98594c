"""Metrics over real tokens; padding is ignored."""

from typing import Any

import keras
from keras import ops

from ktransformer.losses import smoothed_cross_entropy, token_weights


class _TokenMean(keras.metrics.Metric):
    """Mean of a value over all real tokens since the last reset."""

    def __init__(self, *, pad_id: int = 0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.pad_id = pad_id
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def values(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each token's value, float32 `[B, T]`."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> None:
        """Adds a batch: labels `[B, T]`, logits `[B, T, V]`."""
        # Keras passes the mask of the logits as weights; the labels already mark padding.
        del sample_weight
        weights = token_weights(y_true, self.pad_id)
        self.total.assign_add(ops.sum(self.values(y_true, y_pred) * weights))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Any:
        """Returns the mean; 0 without any real token."""
        return self.total / ops.maximum(self.count, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pad_id": self.pad_id}


@keras.saving.register_keras_serializable(package="ktransformer")
class TokenAccuracy(_TokenMean):
    """Top-1 token accuracy, ignoring padding; ties count as correct.

    Args:
        pad_id: The label that marks padding.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.
    """

    def __init__(self, *, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def values(self, y_true: Any, y_pred: Any) -> Any:
        # argmax would take five more passes over the logits, to handle -0.0; TensorFlow merges
        # this maximum with that of the loss.
        labels = ops.cast(ops.reshape(y_true, (-1, 1)), "int32")
        logits = ops.cast(ops.reshape(y_pred, (-1, y_pred.shape[-1])), "float32")  # [N, V]
        label_logits = ops.take_along_axis(logits, labels, axis=-1)[:, 0]
        right = ops.greater_equal(label_logits, ops.max(logits, axis=-1))
        return ops.reshape(ops.cast(right, "float32"), ops.shape(y_true))


@keras.saving.register_keras_serializable(package="ktransformer")
class Perplexity(_TokenMean):
    """Exponential of the mean cross-entropy per real token, without label smoothing.

    Args:
        pad_id: The label that marks padding.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.
    """

    def __init__(self, *, name: str = "perplexity", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def values(self, y_true: Any, y_pred: Any) -> Any:
        return smoothed_cross_entropy(y_true, y_pred)

    def result(self) -> Any:
        """Returns the perplexity, at least 1."""
        return ops.exp(super().result())
