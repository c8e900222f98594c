"""The weights of a training's last epochs, and their average."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.array_file import check_arrays, read_arrays, write_arrays

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
        self.path(epoch - self.keep).unlink(missing_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes this epoch's weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_arrays(self.path(epoch + 1), self.model.get_weights())

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
    sums = [np.zeros(weight.shape, "float64") for weight in model.weights]
    for path in paths:
        arrays = read_arrays(Path(path), WEIGHTS)
        check_arrays(Path(path), model.weights, arrays)
        for total, array in zip(sums, arrays, strict=True):
            total += array
    model.set_weights([total / len(paths) for total in sums])
