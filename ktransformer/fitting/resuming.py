"""A training that can be killed at any moment and goes on to the bit."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.array_file import check_arrays, read_arrays, write_arrays
from ktransformer.fitting.environment import describe_environment, differences
from ktransformer.fitting.reporting import ReportProgress
from ktransformer.fitting.state_head import FORMAT_VERSION, read_head
from ktransformer.text.batches import EpochBatches

if TYPE_CHECKING:
    import tensorflow as tf

_log = logging.getLogger(__name__)
History = dict[str, list[float]]


class TrainingState(keras.callbacks.Callback):
    """Keeps all that the next update of a training depends on, in one file.

    That is: the weights, the optimizer's variables, the seeds of dropout, the metrics of the epoch
    that is running, the number of updates, and the metrics of the epochs before. With batches
    that are functions of the update's number, a training that goes on from it is, to the bit, the
    one that was never cut. The file is written beside and renamed: whoever is killed meanwhile, or
    finds the disk full, leaves the one before.

    Args:
        path: The file.
        minutes: Time between two writings within an epoch; the end of an epoch is written too.
        about: What the training is of, as JSON can hold it; goes into the file.

    Attributes:
        update: Updates made.
        history: The metrics of each whole epoch.
        about_before: `about`, as it was when the file that was read was written.
        environment_before: Likewise, what `describe_environment` returned; empty if it is unknown.
    """

    def __init__(
        self, path: str | Path, *, minutes: float = 5.0, about: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.minutes = minutes
        self.about = about or {}
        self.update = 0
        self.history: History = {}
        self.about_before: dict[str, Any] = {}
        self.environment_before: dict[str, Any] = {}
        self._environment = describe_environment()
        self._variables: list[np.ndarray] = []  # What was read and is not the model's yet;
        self._metrics: list[np.ndarray] = []  # so is this, where an epoch goes on.
        self._written = time.monotonic()

    def read(self) -> dict[str, Any]:
        """Reads the file, so that `fit` goes on from there.

        Returns:
            `about`, as it was when the file was written.

        Raises:
            InputError: The file is damaged, or of a newer version.
        """
        head, *arrays = read_arrays(self.path, "the whole state of a training")
        saved = read_head(head, len(arrays), self.path)
        self.about_before = saved["about"]
        self.update, self.history = saved["update"], saved["history"]
        self.environment_before = saved.get("environment", {})
        self._variables = arrays[: saved["variables"]]
        self._metrics = arrays[saved["variables"] :]
        different = differences(self.environment_before, self._environment)
        if different:
            _log.warning(
                "The training goes on elsewhere than it was cut (%s): it may not end as if it had "
                "not been, to the bit.",
                "; ".join(different),
            )
        return self.about_before

    def restore(self, model: keras.Model, make_batch: Callable[[], tuple[Any, Any]]) -> None:
        """Gives a model and its optimizer what was read, if anything was.

        Args:
            model: Built and compiled.
            make_batch: Returns inputs and labels, of which Keras learns the shapes of the metrics;
                called where something was read.

        Raises:
            InputError: The file is of another model or optimizer.
        """
        if not self._variables:
            return
        model.test_on_batch(*make_batch())  # Metrics have variables from the first batch on.
        model.optimizer.build(model.trainable_variables)
        check_arrays(self.path, _lasting_variables(model), self._variables)
        if self._metrics:
            check_arrays(self.path, model.metrics_variables, self._metrics)
        _assign(_lasting_variables(model), self._variables)
        self._variables = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Goes on with the metrics of an epoch that was cut; Keras has just reset them."""
        if self._metrics:
            _assign(self.model.metrics_variables, self._metrics)
            self._metrics = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the update, and writes the file if it is time to.

        Not after an epoch's last one: the epoch is not over before it has been evaluated.
        """
        self.update += 1
        is_last = batch + 1 == self.params["steps"]
        if not is_last and time.monotonic() - self._written >= 60 * self.minutes:
            self._write(self.model.metrics_variables)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch's metrics to the history and writes the file."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._write([])

    def _write(self, metrics: Sequence[Any]) -> None:
        variables = _lasting_variables(self.model)
        arrays = [keras.ops.convert_to_numpy(v) for v in [*variables, *metrics]]
        if not all(np.isfinite(array).all() for array in arrays):
            raise _not_finite(self.update)
        head = {
            "format_version": FORMAT_VERSION,
            "about": self.about,
            "environment": self._environment,
            "update": self.update,
            "history": self.history,
            "variables": len(variables),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(self.path, [np.frombuffer(json.dumps(head).encode(), "uint8"), *arrays])
        self._written = time.monotonic()


def _lasting_variables(model: keras.Model) -> list[Any]:
    """Returns what lives longer than an epoch: weights, dropout's seeds, the optimizer's state."""
    return [*model.variables, *model.optimizer.variables]


def _assign(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


class StopAtNaN(keras.callbacks.Callback):
    """Ends the training with an `InputError` when the loss is no longer a finite number.

    Args:
        update: Batches that the model was trained on before; the sentence counts on from there.
    """

    def __init__(self, update: int = 0) -> None:
        super().__init__()
        self.update = update

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss; it is a mean over the epoch, which one NaN is enough to spoil."""
        self.update += 1
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            raise _not_finite(self.update)


def _not_finite(update: int) -> InputError:
    return InputError(
        f"The loss is not a finite number after update {update}; lower learning_rate, "
        "raise warmup_steps or set clip_norm."
    )


class Batches(Protocol):
    """Batches that are functions of the update's number, as `TokenBatches`."""

    steps_per_epoch: int

    def dataset(self, first_update: int = 0) -> "tf.data.Dataset":
        """Returns the batches from an update on, without an end; called on TensorFlow alone."""

    def stream(self, first_update: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yields the same; called on another backend alone."""

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        """Yields the batches of an epoch."""


def count_tokens(batches: Batches) -> int | None:
    """Returns the tokens of an epoch, without padding; None where the batches do not say."""
    return batches.tokens if isinstance(batches, EpochBatches) else None


def fit(
    model: keras.Model,
    batches: Batches,
    state: TrainingState,
    *,
    epochs: int,
    enough: Callable[[History], bool] = lambda history: False,
    validation: Batches | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Fits a model from where its state is, and keeps the state.

    Args:
        model: Compiled.
        batches: What to fit it to.
        state: A new one, or one that has been `read`; its `history` is the training's.
        epochs: Passes over the batches in all, those before included.
        enough: Tells from the history whether to end earlier; asked after each epoch.
        validation: What to evaluate it on after each epoch.
        callbacks: Keras callbacks; of what they add to an epoch's logs, `state` keeps all.

    Raises:
        InputError: The state is of another model, the loss becomes NaN, or the batches end with an
            `InputError`.
    """
    state.restore(model, lambda: next(batches.epoch(0)))
    if model.built and not model.optimizer.built:  # TensorFlow would trace the first update twice.
        model.optimizer.build(model.trainable_variables)
    steps = batches.steps_per_epoch
    model.stop_training = enough(state.history)

    def stop_where_it_is_enough(epoch: int, logs: Any) -> None:
        model.stop_training |= enough(state.history)

    last = keras.callbacks.LambdaCallback(on_epoch_end=stop_where_it_is_enough)
    tokens = count_tokens(batches)
    report = ReportProgress(epochs * steps, tokens and tokens / steps, done=state.update)
    progress = _Progress(epochs)
    while state.update < epochs * steps and not model.stop_training:
        epoch, step = divmod(state.update, steps)
        # What is left of an epoch is fitted alone, for Keras gives all epochs as many steps; and
        # every epoch is, where it can only begin the batches anew.
        alone = step > 0 or keras.backend.backend() != "tensorflow"
        # Keras prints its progress to stdout, which is for results.
        with _failure_of(batches), contextlib.redirect_stdout(sys.stderr):
            model.fit(
                feed(batches, state.update, steps - step),
                initial_epoch=epoch,
                epochs=epoch + 1 if alone else epochs,
                steps_per_epoch=steps - step,
                validation_data=validation and feed(validation, 0, validation.steps_per_epoch),
                validation_steps=validation and validation.steps_per_epoch,
                callbacks=[StopAtNaN(state.update), *callbacks, state, last, report, progress],
                shuffle=False,  # The batches are in their order.
                verbose=1 if sys.stderr.isatty() else 2,
            )


@contextlib.contextmanager
def _failure_of(batches: Batches) -> Iterator[None]:
    """Raises what ended the batches in place of the error that TensorFlow makes of it."""
    try:
        yield
    except Exception as error:
        failure: InputError | None = getattr(batches, "failure", None)
        if failure is not None:
            raise failure from error
        raise


class _Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress, with the epochs of the whole training where some are fitted alone."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._all_epochs = epochs

    def set_params(self, params: dict[str, Any]) -> None:
        """Takes what `fit` says of itself, but for the number of epochs."""
        super().set_params({**params, "epochs": self._all_epochs})


def feed(batches: Batches, first_update: int, count: int) -> Any:
    """Returns batches from an update on as the backend's trainer takes them."""
    if keras.backend.backend() == "tensorflow":
        return batches.dataset(first_update)
    return _Updates(batches, first_update, count)


class _Updates(keras.utils.PyDataset):
    """Some batches by their place, which Keras may begin anew as often as it likes.

    A generator would lose those that Keras looked at beforehand.
    """

    def __init__(self, batches: Batches, first_update: int, count: int) -> None:
        super().__init__()
        self._batches, self._first_update, self._count = batches, first_update, count
        self._stream: Iterator[tuple[Any, Any]] = iter(())
        self._next = -1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index != self._next:
            self._stream = self._batches.stream(self._first_update + index)
        self._next = index + 1
        return next(self._stream)
