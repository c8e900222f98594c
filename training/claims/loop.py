"""The training loop and the evaluation of small models, compiled once; a seed draws the batches."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.text import PAD_ID
from training.claims.tasks import Split


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Quality of a model given the true previous tokens (teacher forcing)."""

    loss: float
    """Cross-entropy, nats per token."""
    accuracy: float
    """Share of tokens predicted correctly."""
    exact: float
    """Share of examples with every token predicted correctly."""


def build(model: keras.Model, split: Split) -> keras.Model:
    """Builds the model by calling it on one example, and returns it."""
    model(split.rows(slice(0, 1)).inputs)
    return model


def fit(
    model: keras.Model,
    split: Split,
    *,
    steps: int,
    batch_size: int,
    learning_rate: Any,
    seed: int,
    clip_norm: float | None = None,
) -> list[float]:
    """Trains a model with Adam.

    Args:
        model: The model, built or not.
        split: Training examples.
        steps: Number of updates.
        batch_size: Examples per batch, drawn without replacement within a batch.
        learning_rate: A number, or a schedule: update number -> learning rate.
        seed: Seed of the batches. The weights and dropout depend on
            `keras.utils.set_random_seed`; call it before creating the model.
        clip_norm: Maximum norm of the whole gradient; None for no clipping.

    Returns:
        The training loss before each update. Training stops at the first loss that is NaN or
        infinite, so the list may be shorter than `steps`.
    """
    build(model, split)
    step = _training_step(model, _optimizer(clip_norm))
    return _train(step, split, steps, batch_size, learning_rate, seed)


class Trainer:
    """Trains one model several times, with other initial weights, batches or learning rates.

    It compiles the training step once: compiling a deep model takes longer than a few hundred
    updates.

    Args:
        make_model: Creates the model; its weights depend on `keras.utils.set_random_seed`.
        split: Training examples.
        batch_size: Examples per batch.
        clip_norm: Maximum norm of the whole gradient; None for no clipping.
        loss_function: Takes labels and logits, returns the mean loss; None for the cross-entropy
            of tokens, which ignores padding.
    """

    def __init__(
        self,
        make_model: Callable[[], keras.Model],
        split: Split,
        *,
        batch_size: int,
        clip_norm: float | None = None,
        loss_function: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.model = build(make_model(), split)
        self._make_model, self._split, self._batch_size = make_model, split, batch_size
        self._optimizer = _optimizer(clip_norm)
        self._step = _training_step(self.model, self._optimizer, loss_function)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        self._evaluate_batch = _compile_evaluation(self.model)

    def restart(self, seed: int) -> keras.Model:
        """Resets the optimizer, draws new weights from a seed, and returns the model."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(build(self._make_model(), self._split).get_weights())
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        return self.model

    def fit(
        self, *, steps: int, learning_rate: Any, seed: int, split: Split | None = None
    ) -> list[float]:
        """Restarts from `seed` and trains; see `train` and the function `fit`."""
        self.restart(seed)
        return self.train(steps=steps, learning_rate=learning_rate, seed=seed, split=split)

    def train(
        self, *, steps: int, learning_rate: Any, seed: Any, split: Split | None = None
    ) -> list[float]:
        """Continues the training; see the function `fit` for arguments and result.

        Each part of one training needs its own `seed`, or the parts draw the same batches. `split`
        replaces the training examples.
        """
        split = self._split if split is None else split
        return _train(self._step, split, steps, self._batch_size, learning_rate, seed)

    def evaluate(self, split: Split) -> Evaluation:
        """Evaluates the model with its current weights; see the function `evaluate`."""
        return _evaluate(self._evaluate_batch, split, 100)


def _optimizer(clip_norm: float | None) -> keras.optimizers.Optimizer:
    # The training step sets the learning rate.
    return keras.optimizers.Adam(1.0, beta_2=0.98, epsilon=1e-9, global_clipnorm=clip_norm)


def _train(
    step: Any, split: Split, steps: int, batch_size: int, learning_rate: Any, seed: Any
) -> list[float]:
    draw = np.random.default_rng(seed)
    losses: list[float] = []
    for number in range(steps):
        rate = learning_rate(number) if callable(learning_rate) else learning_rate
        batch = split.rows(draw.choice(len(split), batch_size, replace=False))
        loss = float(step(batch.inputs, batch.labels, tf.constant(rate, tf.float32)))
        if not np.isfinite(loss):
            break
        losses.append(loss)
    return losses


def _training_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, loss_function: Any = None
) -> Any:
    """Compiles one update, which takes a learning rate and returns the loss before the update."""
    optimizer.build(model.trainable_variables)
    loss_function = loss_function or SmoothedCrossEntropy(label_smoothing=0.0)

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, labels: Any, rate: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(inputs, training=True))
        optimizer.learning_rate.assign(rate)
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    return step


def evaluate(model: keras.Model, split: Split, *, batch_size: int = 100) -> Evaluation:
    """Evaluates a model without dropout, given the true previous tokens (teacher forcing).

    Args:
        model: The model.
        split: Validation examples.
        batch_size: Examples per batch.
    """
    return _evaluate(_compile_evaluation(model), split, batch_size)


def _compile_evaluation(model: keras.Model) -> Any:
    """Compiles a function that returns each token's loss and predicted id, both `[B, T]`."""

    @tf.function(reduce_retracing=True)
    def evaluate_batch(inputs: Any, labels: Any) -> tuple[Any, Any]:
        logits = model(inputs, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return losses, tf.argmax(logits, axis=-1, output_type=tf.int32)

    return evaluate_batch


def _evaluate(evaluate_batch: Any, split: Split, batch_size: int) -> Evaluation:
    losses, predicted = [], []
    for start in range(0, len(split), batch_size):
        batch = split.rows(slice(start, start + batch_size))
        batch_losses, batch_predicted = evaluate_batch(batch.inputs, batch.labels)
        losses.append(batch_losses.numpy())
        predicted.append(batch_predicted.numpy())
    real = split.labels != PAD_ID
    right = np.concatenate(predicted) == split.labels
    return Evaluation(
        loss=float(np.concatenate(losses)[real].mean()),
        accuracy=float(right[real].mean()),
        exact=float((right | ~real).all(axis=1).mean()),
    )


def capped(loss: float, vocabulary_size: int) -> float:
    """Caps a loss at ln(V), the loss of uniform predictions, so that a diverged run can be plotted.

    NaN and infinite losses become ln(V) as well.
    """
    uniform = float(np.log(vocabulary_size))
    return min(loss, uniform) if np.isfinite(loss) else uniform


def unigram_loss(train: Split, validation: Split, vocabulary_size: int) -> float:
    """Returns the validation loss of a unigram model: token frequencies with add-one smoothing."""
    counts = np.bincount(train.labels[train.labels != PAD_ID], minlength=vocabulary_size) + 1
    logs = np.log(counts / counts.sum())
    return float(-logs[validation.labels[validation.labels != PAD_ID]].mean())
