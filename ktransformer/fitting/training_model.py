"""A Transformer as it is trained: from hidden states straight to the loss."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from keras import ops

from ktransformer.losses import projected_losses, token_weights
from ktransformer.models import Transformer


@keras.saving.register_keras_serializable(package="ktransformer")
class TrainingModel(keras.Model):
    """Trains a Transformer as `SmoothedCrossEntropy`, `TokenAccuracy` and `Perplexity` would.

    The three are computed together with the output projection and its gradients, a part of the
    positions at a time: the logits `[B, T, V]` and what a loss makes of them, most of the memory
    of a training with a large vocabulary, do not come to be. Compile it with an optimizer alone.
    It has the weights of the Transformer, no others, and in the same order. A weights file of the
    one loads into the other. A `.keras` file, as `ModelCheckpoint` writes it, holds all that
    training needs to go on after `keras.saving.load_model`; its `transformer` is then the model.

    Args:
        transformer: What is trained. Its logits are `hidden_states` by `output_table`
            (`Transformer.has_plain_logits`): overrides of how it makes them are not looked at.
        label_smoothing: Probability mass spread over the vocabulary, in [0, 1).
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: `{"source": int [B, S], "target": int [B, T]}`.
        training: Whether dropout is on.

    Returns:
        Hidden states `[B, T, D]`.
    """

    def __init__(
        self, transformer: Transformer, *, label_smoothing: float = 0.0, **kwargs: Any
    ) -> None:
        # With the policy Keras knows whether to scale the loss.
        super().__init__(dtype=transformer.dtype_policy, **kwargs)
        self.transformer = transformer
        self.label_smoothing = label_smoothing
        self.accuracy = keras.metrics.Mean("accuracy")
        self.perplexity = _Perplexity("perplexity")
        if transformer.built:
            self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Creates the Transformer's weights."""
        if not self.transformer.built:
            self.transformer.build(input_shape)
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return self.transformer.hidden_states(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the mean loss of a batch's real tokens, and tells the metrics.

        Raises:
            ValueError: There is a `sample_weight`, which `compile_model` trains with.
        """
        del x
        if sample_weight is not None:
            raise ValueError("A TrainingModel takes no sample_weight; use compile_model.")
        weights = token_weights(y, self.transformer.pad_id)
        loss, plain, right = projected_losses(
            y_pred,
            self.transformer.output_table(),
            y,
            weights,
            self.label_smoothing,
            differentiable=training,
        )
        count = ops.sum(weights)
        least_one = ops.maximum(count, 1.0)
        self.accuracy.update_state(right / least_one, count)
        self.perplexity.update_state(plain / least_one, count)
        return loss / least_one + sum(self.losses)  # Those that layers added.

    def save_weights(self, filepath: str | Path, overwrite: bool = True, **options: Any) -> None:
        """Writes the weights file that the Transformer would, compiled with the same optimizer."""
        with self._optimizer_lent():
            self.transformer.save_weights(filepath, overwrite=overwrite, **options)

    def load_weights(
        self, filepath: str | Path, skip_mismatch: bool = False, **options: Any
    ) -> None:
        """Reads a weights file of this class or of the Transformer, or a `.keras` file."""
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
        """Gives the Transformer the optimizer, whose state belongs into a weights file."""
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
        del config["dtype"]  # The Transformer's.
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
    """The exponential of a mean."""

    def result(self) -> Any:
        return ops.exp(super().result())
