"""The weights of a training's last epochs, and their mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.array_file import check_arrays, read_arrays, write_arrays

WEIGHTS = "the weights of an epoch"


class ValidationCallback(keras.callbacks.Callback):
    """Adds scores of validation text to an epoch's logs.

    Its `on_epoch_end` is called once more for the mean of the weights, to compare.
    """


class LastCheckpoints(keras.callbacks.Callback):
    """Saves the weights after each epoch and keeps the last few.

    What is older goes when the next epoch begins: until the state of a training has been written,
    it is that of the epoch before.

    Args:
        folder: Where to; made if missing.
        keep: How many epochs' weights to keep.
    """

    def __init__(self, folder: str | Path, *, keep: int) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.keep = keep

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Drops what is older than the last few."""
        self.path(epoch - self.keep).unlink(missing_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes this epoch's weights beside the others."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_arrays(self.path(epoch + 1), self.model.get_weights())

    def path(self, epoch: int) -> Path:
        """Returns where the weights of an epoch are, counted from 1."""
        return self.folder / f"epoch-{epoch:04d}.npz"

    def last(self, count: int, epoch: int) -> list[Path]:
        """Returns the files of at most `count` epochs, the last of them `epoch`.

        Raises:
            InputError: One of them is missing.
        """
        paths = [self.path(number) for number in range(max(epoch - count, 0) + 1, epoch + 1)]
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path}, of which the final weights are made, is missing.")
        return paths

    def check(self, model: keras.Model, count: int, *, epoch: int, end: int) -> None:
        """Checks the files that a training that goes on will need at its end.

        Args:
            model: The model whose weights they hold.
            count: Epochs to average over.
            epoch: The last epoch that is over.
            end: The earliest epoch that may be the last of those.

        Raises:
            InputError: A file is missing, damaged or of another model.
        """
        for number in range(max(end - count, 0) + 1, epoch + 1):
            path = self.path(number)
            if not path.is_file():
                raise InputError(f"{path}, of which the final weights are made, is missing.")
            check_arrays(path, model.weights, read_arrays(path, WEIGHTS))


def average_checkpoints(model: keras.Model, paths: Sequence[str | Path]) -> None:
    """Sets a model's weights to the mean of several checkpoints'.

    Args:
        model: The model; its present weights are lost.
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
