"""The training loss: label-smoothed cross-entropy, averaged over real tokens."""

from typing import Any

import keras
from keras import ops

from ktransformer.losses.cross_entropy import one_if_zero, smoothed_cross_entropy, token_weights


@keras.saving.register_keras_serializable(package="ktransformer")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Label-smoothed cross-entropy, averaged over the real tokens of a batch.

    Padding counts neither in the sum nor in the number of tokens.

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

    Masking: by the labels; a mask of the logits is ignored.

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
        """Returns the mean over real tokens, weighted by `sample_weight` if given."""
        losses = smoothed_cross_entropy(y_true, y_pred, self.label_smoothing)
        weights = token_weights(y_true, self.pad_id, sample_weight)
        return ops.sum(losses * weights) / one_if_zero(self.total_weight(weights))

    def total_weight(self, weights: Any) -> Any:
        """Returns the divisor of the summed losses; override it to train on parts of a batch.

        Args:
            weights: Float32 tensor `[B, T]`, the weight of each token.

        Returns:
            A float32 scalar: the sum of the weights; an override returns the whole batch's.
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
