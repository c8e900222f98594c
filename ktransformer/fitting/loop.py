"""The training loop: `model.fit` on batches by their number, resumable and with progress."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.process_arrays import own_rows
from ktransformer.fitting.reporting import ReportProgress
from ktransformer.fitting.state import History, TrainingState, not_finite

if TYPE_CHECKING:
    import tensorflow as tf


class Batches(Protocol):
    """Batches that depend on the update's number alone, as `TokenBatches`.

    Each batch is `(inputs, labels)`, the inputs as the model takes them, or has the weights of its
    rows, too. Optional attributes, as
    `EpochBatches` has them: `tokens`, the tokens of an epoch, for the log; `failure`, the error
    that ended `dataset`, of which TensorFlow passes on the text alone.
    """

    steps_per_epoch: int

    def dataset(self, first_update: int = 0) -> "tf.data.Dataset":
        """Returns the batches from an update on, endlessly; called on TensorFlow only."""

    def stream(self, first_update: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yields the same; called on other backends only."""

    def epoch(self, epoch: int) -> Iterator[tuple[Any, ...]]:
        """Yields the batches of an epoch."""


class StopAtNaN(keras.callbacks.Callback):
    """Raises an `InputError` when the loss is NaN or infinite.

    Args:
        update: Updates made before this callback starts, for the message.
    """

    def __init__(self, update: int = 0) -> None:
        super().__init__()
        self.update = update

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the loss, the epoch's mean so far: one NaN makes it NaN."""
        self.update += 1
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            raise not_finite(self.update)


def fit(
    model: keras.Model,
    batches: Batches,
    state: TrainingState,
    *,
    epochs: int,
    stop_when: Callable[[History], bool] = lambda history: False,
    validation: Batches | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Fits any Keras model from the state's update on, and writes the state.

    Args:
        model: Compiled.
        batches: The training batches.
        state: A new one, or one that has been `read`; its `history` grows with each epoch.
        epochs: Passes over the batches in total, earlier ones included.
        stop_when: Takes the history after each epoch; True ends the training early.
        validation: Batches to evaluate after each epoch.
        callbacks: Keras callbacks; metrics that they add to an epoch's logs enter the history.

    Raises:
        InputError: The state is of another model, the loss becomes NaN, or the batches end with an
            `InputError`.
    """
    state.restore(model, lambda: own_rows(next(batches.epoch(0))))
    if model.built and not model.optimizer.built:  # TensorFlow would trace the first update twice.
        model.optimizer.build(model.trainable_variables)
    steps = batches.steps_per_epoch
    model.stop_training = stop_when(state.history)

    def stop(epoch: int, logs: Any) -> None:
        model.stop_training |= stop_when(state.history)

    last = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    tokens = getattr(batches, "tokens", None)
    report = ReportProgress(epochs * steps, tokens and tokens / steps, done=state.update)
    progress = _Progress(epochs)
    while state.update < epochs * steps and not model.stop_training:
        epoch, step = divmod(state.update, steps)
        # The rest of a cut epoch needs a `fit` of its own: Keras gives all epochs as many steps.
        # So does every epoch where the backend can only restart the batches.
        single = step > 0 or keras.backend.backend() != "tensorflow"
        # Keras prints its progress to stdout, which is for results.
        with _failure_of(batches), contextlib.redirect_stdout(sys.stderr):
            model.fit(
                feed(batches, state.update, steps - step),
                initial_epoch=epoch,
                epochs=epoch + 1 if single else epochs,
                steps_per_epoch=steps - step,
                validation_data=validation and feed(validation, 0, validation.steps_per_epoch),
                validation_steps=validation and validation.steps_per_epoch,
                callbacks=[StopAtNaN(state.update), *callbacks, state, last, report, progress],
                shuffle=False,  # The batches have their order.
                verbose=1 if sys.stderr.isatty() else 2,
            )


@contextlib.contextmanager
def _failure_of(batches: Batches) -> Iterator[None]:
    """Replaces TensorFlow's error by the one that ended the batches, if there is one."""
    try:
        yield
    except Exception as error:
        failure: InputError | None = getattr(batches, "failure", None)
        if failure is not None:
            raise failure from error
        raise


class _Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress bar with the number of epochs of the whole training."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._all_epochs = epochs

    def set_params(self, params: dict[str, Any]) -> None:
        """Sets what `fit` passes, except for the number of epochs."""
        super().set_params({**params, "epochs": self._all_epochs})


def feed(batches: Batches, first_update: int, count: int) -> Any:
    """Returns `count` batches from an update on, in the form that the backend's trainer takes."""
    if keras.backend.backend() == "tensorflow":
        return batches.dataset(first_update)
    return _IndexedBatches(batches, first_update, count)


class _IndexedBatches(keras.utils.PyDataset):
    """Batches by index, so that Keras may restart them.

    A generator would lose the batches that Keras reads in advance.
    """

    def __init__(self, batches: Batches, first_update: int, count: int) -> None:
        super().__init__()
        self._batches, self._first_update, self._count = batches, first_update, count
        self._stream: Iterator[tuple[Any, ...]] = iter(())
        self._next = -1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if index != self._next:
            self._stream = self._batches.stream(self._first_update + index)
        self._next = index + 1
        return own_rows(next(self._stream))
