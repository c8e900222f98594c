"""Trains and judges small models: one compiled step, on batches that a seed draws."""

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
    """How well a model predicts."""

    loss: float
    """Cross-entropy, nats per token."""
    accuracy: float
    """Share of tokens that are predicted."""
    exact: float
    """Share of examples whose every token is predicted, given the true tokens before it."""


def build(model: keras.Model, split: Split) -> keras.Model:
    """Creates the model's weights by calling it on one example, and returns it."""
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
        model: The model; built here if it is not.
        split: What to train on.
        steps: Number of updates.
        batch_size: Examples a batch, drawn without replacement within it.
        learning_rate: A number, or a schedule of `ktransformer.schedules`.
        seed: Seed of the batches. The weights and dropout follow `keras.utils.set_random_seed`,
            which is to be called before the model is made.
        clip_norm: Where the norm of the whole gradient is cut; None for nowhere.

    Returns:
        The training loss before each update. It ends early, with fewer than `steps`, before the
        first that is not a number.
    """
    build(model, split)
    step = _training_step(model, _optimizer(clip_norm))
    return _train(step, split, steps, batch_size, learning_rate, seed)


class Trainer:
    """Trains the same model several times: from other weights, with other batches or rates.

    To compile a deep model takes longer than to train it for a few hundred steps; here that is
    done once.

    Args:
        make_model: Makes the model, with weights that follow `keras.utils.set_random_seed`.
        split: What to train on.
        batch_size: Examples a batch.
        clip_norm: Where the norm of the whole gradient is cut; None for nowhere.
    """

    def __init__(
        self,
        make_model: Callable[[], keras.Model],
        split: Split,
        *,
        batch_size: int,
        clip_norm: float | None = None,
    ) -> None:
        self.model = build(make_model(), split)
        self._make_model, self._split, self._batch_size = make_model, split, batch_size
        self._optimizer = _optimizer(clip_norm)
        self._step = _training_step(self.model, self._optimizer)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        self._judge = _judgement(self.model)

    def restart(self, seed: int) -> keras.Model:
        """Gives the model the weights that follow from a seed, and returns it."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(build(self._make_model(), self._split).get_weights())
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        return self.model

    def fit(self, *, steps: int, learning_rate: Any, seed: int) -> list[float]:
        """Restarts and trains; takes and returns what the function `fit` does."""
        self.restart(seed)
        return self.train(steps=steps, learning_rate=learning_rate, seed=seed)

    def train(self, *, steps: int, learning_rate: Any, seed: Any) -> list[float]:
        """Goes on training; takes and returns what the function `fit` does.

        To go on along the same training, give every part another `seed` of its batches.
        """
        return _train(self._step, self._split, steps, self._batch_size, learning_rate, seed)

    def evaluate(self, split: Split) -> Evaluation:
        """Judges the model as it is now, as the function `evaluate` does."""
        return _evaluate(self._judge, split, 100)


def _optimizer(clip_norm: float | None) -> keras.optimizers.Optimizer:
    # The rate is set before each step.
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


def _training_step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Any:
    """Compiles one update at a learning rate; it returns the loss before it."""
    optimizer.build(model.trainable_variables)
    loss_function = SmoothedCrossEntropy(label_smoothing=0.0)

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, labels: Any, rate: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(inputs, training=True))
        optimizer.learning_rate.assign(rate)
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    return step


def evaluate(model: keras.Model, split: Split, *, batch_size: int = 100) -> Evaluation:
    """Judges a model, dropout off, with the true tokens before each predicted one.

    Args:
        model: The model.
        split: What to judge by.
        batch_size: Examples a batch.
    """
    return _evaluate(_judgement(model), split, batch_size)


def _judgement(model: keras.Model) -> Any:
    """Compiles what gives each token's loss and the predicted token, `[B, T]` each."""

    @tf.function(reduce_retracing=True)
    def judge(inputs: Any, labels: Any) -> tuple[Any, Any]:
        logits = model(inputs, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return losses, tf.argmax(logits, axis=-1, output_type=tf.int32)

    return judge


def _evaluate(judge: Any, split: Split, batch_size: int) -> Evaluation:
    losses, predicted = [], []
    for start in range(0, len(split), batch_size):
        batch = split.rows(slice(start, start + batch_size))
        batch_losses, batch_predicted = judge(batch.inputs, batch.labels)
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
    """Returns a loss, or that of guessing evenly, ln(V), if it is higher or no number.

    So a training that diverged counts as one that learned nothing, and can be drawn.
    """
    even = float(np.log(vocabulary_size))
    return min(loss, even) if np.isfinite(loss) else even


def frequency_loss(train: Split, validation: Split, vocabulary_size: int) -> float:
    """Returns the validation loss of knowing nothing but how frequent each token is."""
    counts = np.bincount(train.labels[train.labels != PAD_ID], minlength=vocabulary_size) + 1
    logs = np.log(counts / counts.sum())
    return float(-logs[validation.labels[validation.labels != PAD_ID]].mean())
