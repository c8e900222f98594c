"""The weights of a training's last epochs, their average, and the weights it ends with."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.loop import Batches, feed
from ktransformer.fitting.process_arrays import whole_value
from ktransformer.fitting.processes import agree, process_index
from ktransformer.fitting.state import History
from ktransformer.saving.array_file import check_arrays, read_arrays, write_arrays

_log = logging.getLogger(__name__)

WEIGHTS = "the weights of an epoch"


class ValidationCallback(keras.callbacks.Callback):
    """Base class of callbacks that add validation scores to an epoch's logs.

    `on_epoch_end(epoch, logs)` is also called once for the averaged weights, to compare them.
    """


class LastCheckpoints(keras.callbacks.Callback):
    """Saves the weights after each epoch and keeps those of the last few.

    Deletes older weights at the start of the next epoch, because until then the saved state may
    still refer to them.

    Args:
        folder: Where to write; created if missing.
        keep: Number of epochs whose weights are kept.
    """

    def __init__(self, folder: str | Path, *, keep: int) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.keep = keep

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Deletes the weights of the epoch that is no longer among the last few."""
        if process_index():
            return
        self.path(epoch - self.keep).unlink(missing_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes this epoch's weights."""
        weights = [whole_value(weight) for weight in self.model.weights]
        if process_index():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_arrays(self.path(epoch + 1), weights)

    def path(self, epoch: int) -> Path:
        """Returns the file of an epoch's weights; epochs count from 1."""
        return self.folder / f"epoch-{epoch:04d}.npz"

    def last(self, count: int, epoch: int) -> list[Path]:
        """Returns the files of up to `count` epochs that end with `epoch`.

        Raises:
            InputError: One of them is missing.
        """
        paths = [self.path(number) for number in range(max(epoch - count, 0) + 1, epoch + 1)]
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path}, which the final weights are averaged from, is missing.")
        return paths

    def check(self, model: keras.Model, count: int, *, epoch: int, end: int) -> None:
        """Checks the files that a resumed training will average at its end.

        Args:
            model: The model whose weights they hold.
            count: Number of epochs to average over.
            epoch: The last finished epoch.
            end: The earliest epoch with which the average may end.

        Raises:
            InputError: A file is missing, damaged or of another model.
        """
        for number in range(max(end - count, 0) + 1, epoch + 1):
            path = self.path(number)
            if not path.is_file():
                raise InputError(f"{path}, which the final weights are averaged from, is missing.")
            check_arrays(path, model.weights, read_arrays(path, WEIGHTS))


def average_checkpoints(model: keras.Model, paths: Sequence[str | Path]) -> None:
    """Sets a model's weights to the average of several checkpoints.

    Args:
        model: The model; its weights are overwritten.
        paths: Files that `LastCheckpoints` wrote.

    Raises:
        ValueError: `paths` is empty.
        InputError: A file is damaged or of another model.
    """
    if not paths:
        raise ValueError("paths must name at least one checkpoint; got none.")
    model.set_weights(_average_on_all(model, paths))


def _average_on_all(model: keras.Model, paths: Sequence[str | Path]) -> list[np.ndarray]:
    """Returns, in every process, what the first one reads."""
    return agree(lambda: _average(model, paths))


def _average(model: keras.Model, paths: Sequence[str | Path]) -> list[np.ndarray]:
    sums = [np.zeros(weight.shape, "float64") for weight in model.weights]
    for path in paths:
        arrays = read_arrays(Path(path), WEIGHTS)
        check_arrays(Path(path), model.weights, arrays)
        for total, array in zip(sums, arrays, strict=True):
            total += array
    return [total / len(paths) for total in sums]


def epochs_after_best(history: Mapping[str, list[float]]) -> int:
    """Returns the number of epochs after the one with the lowest validation perplexity."""
    # Not val_loss: Keras weighs a batch's loss by its rows, however few tokens they hold.
    perplexities = history.get("val_perplexity", [np.inf])
    return len(perplexities) - 1 - int(np.argmin(perplexities))


def final_weights(
    training_model: keras.Model,
    model: keras.Model,
    paths: Sequence[Path],
    history: History,
    validation: Batches | None,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epoch: int,
) -> tuple[list[np.ndarray], History]:
    """Returns the final weights of a trained model.

    They are the average over some epochs; with `validation`, the last of these epochs' own weights
    where their perplexity is lower.

    Args:
        training_model: The compiled model that was fitted.
        model: The model in it; its weights are overwritten.
        paths: The epochs' weights.
        history: The metrics of each epoch.
        validation: The validation batches, or None.
        callbacks: Those of the training; each `ValidationCallback` adds its scores.
        epoch: The epoch of the last of `paths`, counted from 1.

    Returns:
        The weights, and their scores to add to the history.
    """
    averaged = _average_on_all(model, paths)
    if validation is None:
        return averaged, {}
    if len(paths) == 1:  # Of the best epoch, with `patience`; else its scores are the last ones.
        names = [name for name in history if name.startswith("val_")]
        is_last = epoch == len(history["loss"])
        scores = {f"final_{name}": [history[name][epoch - 1]] for name in names}
        return averaged, {} if is_last else scores
    model.set_weights(averaged)
    average = _evaluate(training_model, validation, callbacks, epoch)
    last = {name: history[name][epoch - 1] for name in average if name in history}
    is_average = average["val_perplexity"] <= last["val_perplexity"]
    _log.info("The average of the last %s epochs' weights: %s.", len(paths), _describe(average))
    _log.info("The weights of epoch %s: %s.", epoch, _describe(last))
    _log.info("Kept: %s.", "the average" if is_average else f"epoch {epoch}")
    kept = averaged if is_average else _average_on_all(model, paths[-1:])
    return kept, {
        "final_averaged_epochs": [float(len(paths)) if is_average else 1.0],
        **{
            f"final_{name}": [float(value)]
            for name, value in (average if is_average else last).items()
        },
    }


def _evaluate(
    model: keras.Model,
    validation: Batches,
    callbacks: Sequence[keras.callbacks.Callback],
    epoch: int,
) -> dict[str, float]:
    """Returns the validation scores of a model's present weights, named as after an epoch."""
    found = model.evaluate(
        feed(validation, 0, validation.steps_per_epoch),
        steps=validation.steps_per_epoch,
        return_dict=True,
        verbose=0,
    )
    scores = {f"val_{name}": float(value) for name, value in found.items()}
    for callback in callbacks:
        if isinstance(callback, ValidationCallback):
            callback.on_epoch_end(epoch - 1, scores)
    return scores


def _describe(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
