"""A model for training that computes the loss from hidden states, without all logits."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from keras import ops

from ktransformer.losses import projected_losses, token_weights
from ktransformer.losses.cross_entropy import one_if_zero


@keras.saving.register_keras_serializable(package="ktransformer")
class TrainingModel(keras.Model):
    """Trains a model with the loss and metrics of `compile_model`, in less memory.

    `SmoothedCrossEntropy`, `TokenAccuracy` and `Perplexity` are computed together with the output
    projection and its gradients, for a part of the positions at a time. The logits `[B, T, V]` and
    their gradients, most of the memory of a training with a large vocabulary, are never stored.
    Compile it with an optimizer alone. It has exactly the weights of the inner model, in the same
    order, and a weights file of either loads into the other. A `.keras` file, as `ModelCheckpoint`
    writes it, holds everything to continue the training after `keras.saving.load_model`; its
    `transformer` is then the trained model.

    Args:
        transformer: The model to train: a `Transformer`, or another model with
            `hidden_states(inputs, training)` -> `[B, T, D]`, `output_table()` -> `[V, D]` and
            `pad_id`, whose logits are the product of the two (`has_plain_logits`), plus
            `output_bias_weight`, `[V]`, if it has one.
        label_smoothing: Probability mass spread over the vocabulary, in [0, 1).
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: The inputs of the inner model.
        training: Whether dropout is on.

    Returns:
        Hidden states `[B, T, D]`.
    """

    def __init__(
        self, transformer: keras.Model, *, label_smoothing: float = 0.0, **kwargs: Any
    ) -> None:
        # Keras scales the loss if the policy is of float16.
        super().__init__(dtype=transformer.dtype_policy, **kwargs)
        self.autocast = transformer.autocast  # A model of ids takes float ids unrounded.
        self.transformer = transformer
        self.label_smoothing = label_smoothing
        self.accuracy = keras.metrics.Mean("accuracy")
        self.perplexity = _Perplexity("perplexity")
        if transformer.built:
            self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights of the inner model."""
        if not self.transformer.built:
            self.transformer.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.transformer.hidden_states(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the mean loss over a batch's real tokens, and updates the metrics.

        Args:
            x: Ignored.
            y: Labels `[B, T]`.
            y_pred: Hidden states `[B, T, D]`.
            sample_weight: The weights of the mean, and of the metrics': float tensor `[B, T]`, or
                `[B]` for a weight a row; None for 1.
            training: Whether the loss has gradients.
        """
        del x
        weights = token_weights(y, self.transformer.pad_id, sample_weight)
        bias = getattr(self.transformer, "output_bias_weight", None)
        loss, plain, right = projected_losses(
            y_pred,
            self.transformer.output_table(),
            y,
            weights,
            self.label_smoothing,
            bias=None if bias is None else ops.convert_to_tensor(bias),
            differentiable=training,
            table_differentiable=self._trains_table(),
        )
        count = ops.sum(weights)
        # Weights may sum to less than 1.
        divisor = ops.maximum(count, 1.0) if sample_weight is None else one_if_zero(count)
        self.accuracy.update_state(right / divisor, count)
        self.perplexity.update_state(plain / divisor, count)
        return loss / divisor + sum(self.losses)  # Losses that layers added.

    def _trains_table(self) -> bool:
        """Returns False if the output projection is known to be frozen."""
        layer = getattr(self.transformer, "output_embedding", None)
        return layer is None or any(weight.trainable for weight in layer.weights)

    def save_weights(self, filepath: str | Path, overwrite: bool = True, **options: Any) -> None:
        """Writes the weights file of the inner model, with the state of the optimizer."""
        with self._optimizer_lent():
            self.transformer.save_weights(filepath, overwrite=overwrite, **options)

    def load_weights(
        self, filepath: str | Path, skip_mismatch: bool = False, **options: Any
    ) -> None:
        """Reads a weights file of this class or of the inner model, or a `.keras` file."""
        try:
            with self._optimizer_lent():
                self.transformer.load_weights(filepath, skip_mismatch=skip_mismatch, **options)
        except ValueError as error:
            try:  # A .keras file of this class, or a weights file of an earlier version.
                super().load_weights(filepath, skip_mismatch=skip_mismatch, **options)
            except ValueError:
                raise error from None

    @contextlib.contextmanager
    def _optimizer_lent(self) -> Iterator[None]:
        """Lends the optimizer to the inner model, so that a weights file holds its state."""
        had, own = hasattr(self.transformer, "optimizer"), getattr(self.transformer, "optimizer", 0)
        self.transformer.optimizer = getattr(self, "optimizer", None)
        try:
            yield
        finally:
            self.transformer.optimizer = own
            if not had:
                del self.transformer.optimizer

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["dtype"]  # The inner model's.
        return {
            **config,
            "transformer": keras.saving.serialize_keras_object(self.transformer),
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TrainingModel":
        """Creates the model that `get_config` described."""
        transformer = keras.saving.deserialize_keras_object(config["transformer"])
        return cls(**{**config, "transformer": transformer})


class _Perplexity(keras.metrics.Mean):
    """The exponential of a mean of cross-entropies."""

    def result(self) -> Any:
        return ops.exp(super().result())
