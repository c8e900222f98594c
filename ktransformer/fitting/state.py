"""The state of a training, in one file from which it resumes exactly."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.environment import describe_environment, differences
from ktransformer.fitting.process_arrays import whole_value
from ktransformer.fitting.processes import agree, process_index
from ktransformer.saving.array_file import check_arrays, read_arrays, write_arrays

_log = logging.getLogger(__name__)
History = dict[str, list[float]]
FORMAT_VERSION = 1


class TrainingState(keras.callbacks.Callback):
    """Writes everything that the next update depends on to one file.

    The file holds the weights, the optimizer's variables, the seeds of dropout, the metrics of the
    current epoch, the number of updates and the metrics of the epochs before. If batches depend on
    the update's number alone, a resumed training equals an uninterrupted one bit for bit. The file
    is written beside the old one and renamed: a killed process or a full disk leaves the old one.

    Args:
        path: The file.
        minutes: Time between two writes within an epoch; the end of each epoch is written too.
        fingerprint: Properties of the training by name, JSON-serialisable; written to the file.

    Attributes:
        update: Updates made.
        history: The metrics of each finished epoch.
        saved_fingerprint: The fingerprint in the file that was read; empty if none was.
        saved_environment: What `describe_environment` returned then; empty if unknown.
        environment: What it returns now.
        seconds: The time that the training took until the last write, earlier parts included.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        minutes: float = 5.0,
        fingerprint: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.minutes = minutes
        self.fingerprint = fingerprint or {}
        self.update = 0
        self.history: History = {}
        self.saved_fingerprint: dict[str, Any] = {}
        self.saved_environment: dict[str, Any] = {}
        self.environment = describe_environment()
        self._variables: list[np.ndarray] = []  # Read, not yet assigned to the model.
        self._metrics: list[np.ndarray] = []  # Likewise, of an epoch that was cut.
        self._written = self._counted = time.monotonic()
        self.seconds = 0.0

    def read(self) -> dict[str, Any]:
        """Reads the file, so that `fit` continues from it.

        Returns:
            `saved_fingerprint`.

        Raises:
            InputError: The file is damaged, or of a newer version.
        """
        head, *arrays = agree(lambda: read_arrays(self.path, "the whole state of a training"))
        saved = read_head(head, len(arrays), self.path)
        self.saved_fingerprint = saved["about"]
        self.update, self.history = saved["update"], saved["history"]
        self.saved_environment = saved.get("environment", {})
        self.seconds = float(saved.get("seconds", 0.0))
        self._variables = arrays[: saved["variables"]]
        self._metrics = arrays[saved["variables"] :]
        different = differences(self.saved_environment, self.environment)
        if different:
            _log.warning(
                "The training resumes in another environment (%s): it may not equal an "
                "uninterrupted training bit for bit.",
                "; ".join(different),
            )
        return self.saved_fingerprint

    def record_fingerprint(self, name: str, value: Any) -> None:
        """Records a property known only after encoding, such as the tokenizer's digest.

        Args:
            name: Name of the property.
            value: Its value, JSON-serialisable.

        Raises:
            InputError: The state that was read has another value.
        """
        if self.saved_fingerprint.get(name, value) != value:
            raise InputError(f"{self.path} is of a training with another {name}.")
        self.fingerprint[name] = value

    def restore(self, model: keras.Model, make_batch: Callable[[], tuple[Any, ...]]) -> None:
        """Assigns what was read to a model and its optimizer; does nothing for a new state.

        Args:
            model: Built and compiled.
            make_batch: Returns inputs and labels; called once, to create the metrics' variables.

        Raises:
            InputError: The file is of another model or optimizer.
        """
        if not self._variables:
            return
        model.test_on_batch(*make_batch())  # Metrics have variables from the first batch on.
        model.optimizer.build(model.trainable_variables)
        check_arrays(self.path, _saved_variables(model), self._variables)
        if self._metrics:
            check_arrays(self.path, model.metrics_variables, self._metrics)
        _assign(_saved_variables(model), self._variables)
        self._variables = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores the metrics of an epoch that was cut, which Keras has just reset."""
        if self._metrics:
            _assign(self.model.metrics_variables, self._metrics)
            self._metrics = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the update, and writes the file if `minutes` have passed.

        The last update of an epoch is not written before the epoch has been evaluated.
        """
        self.update += 1
        is_last = batch + 1 == self.params["steps"]
        # All at once: each process may have a part of a variable.
        if not is_last and agree(lambda: time.monotonic() - self._written >= 60 * self.minutes):
            self._write(self.model.metrics_variables)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch's metrics to the history and writes the file."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._write([])

    def _write(self, metrics: Sequence[Any]) -> None:
        variables = _saved_variables(self.model)
        arrays = [whole_value(variable) for variable in [*variables, *metrics]]
        if not all(np.isfinite(array).all() for array in arrays):
            raise not_finite(self.update)
        now = time.monotonic()
        self.seconds, self._counted = self.seconds + now - self._counted, now
        head = {
            "format_version": FORMAT_VERSION,
            "about": self.fingerprint,
            "environment": self.environment,
            "seconds": self.seconds,
            "update": self.update,
            "history": self.history,
            "variables": len(variables),
        }
        self._written = time.monotonic()
        if process_index():  # All processes have all variables; the first one writes them.
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(self.path, [np.frombuffer(json.dumps(head).encode(), "uint8"), *arrays])


def not_finite(update: int) -> InputError:
    """Creates the error for a loss or a weight that is NaN or infinite after an update."""
    return InputError(
        f"The loss is not a finite number after update {update}; lower learning_rate, "
        "raise warmup_steps or set clip_norm."
    )


def _saved_variables(model: keras.Model) -> list[Any]:
    """Returns the variables that outlive an epoch: weights, dropout's seeds, optimizer."""
    return [*model.variables, *model.optimizer.variables]


def _assign(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def read_head(array: np.ndarray, arrays: int, path: Path) -> dict[str, Any]:
    """Reads the head of a state.

    Args:
        array: The bytes of the JSON.
        arrays: Number of arrays that follow it.
        path: The file, for errors.

    Returns:
        `about` (the fingerprint), `update`, `history` and `variables`, checked, and `environment`
        and `seconds`, which older states lack.

    Raises:
        InputError: The head is damaged, or of a newer version.
    """
    try:
        head = json.loads(array.tobytes())
    except (ValueError, RecursionError):
        head = None
    damaged = InputError(f"{path} is not the whole state of a training.")
    if not isinstance(head, dict) or not _is_number(head.get("format_version")):
        raise damaged
    if head["format_version"] > FORMAT_VERSION:
        raise InputError(f"{path} is of a newer ktransformer: upgrade it to go on.")
    if not (
        isinstance(head.get("about"), dict)
        and isinstance(head.get("environment", {}), dict)
        and _is_time(head.get("seconds", 0.0))
        and _is_number(head.get("update"))
        and _is_number(head.get("variables"))
        and head["variables"] <= arrays
        and _is_history(head.get("history"))
    ):
        raise damaged
    return head


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 1e12


def _is_history(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(values, list) and all(isinstance(v, (int, float)) for v in values)
        for values in value.values()
    )
