"""R-Drop: cross-entropy of two passes with different dropout, and their divergence."""

from typing import Any

import keras
from keras import ops

from ktransformer.losses.cross_entropy import one_if_zero, token_weights
from ktransformer.losses.smoothed import SmoothedCrossEntropy


@keras.saving.register_keras_serializable(package="ktransformer")
class RDrop(SmoothedCrossEntropy):
    """Label-smoothed cross-entropy of two passes plus the divergence between them.

    A batch holds its rows twice (`TokenBatches(copies=2)`), so that one pass of the model is two
    with different dropout. The loss is the mean cross-entropy plus alpha / 2 times the mean of the
    two Kullback-Leibler divergences, per real token.

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

    Masking: by the labels.

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
        """Returns the mean over real tokens, weighted by `sample_weight` if given."""
        loss = super().__call__(y_true, y_pred, sample_weight)
        weights = ops.split(token_weights(y_true, self.pad_id, sample_weight), 2)[0]
        first, second = ops.split(ops.log_softmax(ops.cast(y_pred, "float32")), 2)
        # KL(p, q) + KL(q, p) of each token.
        divergences = ops.sum((ops.exp(first) - ops.exp(second)) * (first - second), axis=-1)
        divergence = ops.sum(divergences * weights) / one_if_zero(ops.sum(weights))
        return loss + self.alpha / 4 * divergence

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}
