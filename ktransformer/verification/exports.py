"""Exports that are opened to be verified, whatever their kind of model."""

import time
from pathlib import Path

import numpy as np

from ktransformer.engines import TaskModel, open_model
from ktransformer.errors import InputError


class Export:
    """A SavedModel or a .tflite, opened.

    Args:
        path: Its folder or file.
        threads: CPU threads of LiteRT, None for one a core; TensorFlow's are set for the process.

    Attributes:
        path: The folder or file.
        form: `SavedModel` or `tflite`.
        description: Its description.
        load_seconds: Time to open it.

    Raises:
        InputError: There is no export, or a damaged one.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        start = time.perf_counter()
        model = open_model(path, threads=threads)
        if isinstance(model, TaskModel):
            raise InputError(f"{path} is the folder of a model, not an export of one.")
        self._model = model
        self.load_seconds = time.perf_counter() - start
        self.path = model.path
        self.form = model.kind
        self.description = model.description

    @property
    def kind(self) -> str:
        """Its form, with the quantisation and the size of the shortlist, if any."""
        words, shortlist = [self.form], getattr(self.description, "shortlist", None)
        if self.description.quantization != "none":
            words.append(self.description.quantization)
        if shortlist is not None:
            words.append(f"shortlist of {shortlist}")
        return ", ".join(words)

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature, in batches of the size that the export is fixed to.

        Args:
            signature: Its name.
            inputs: Its inputs by name, `[B, ...]`, or `[]` for one that all examples share.

        Returns:
            The outputs by name, `[B, ...]`.
        """
        size = self.description.batch_size
        if size is None:
            return self._model.run(signature, **inputs)
        rows = max(len(values) for values in inputs.values() if values.ndim)
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, rows, size):
            chosen = {name: _rows(values, start, size) for name, values in inputs.items()}
            found = self._model.run(signature, **chosen)
            parts.append({name: values[: rows - start] for name, values in found.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(values: np.ndarray, start: int, size: int) -> np.ndarray:
    """Returns `size` rows from `start`; the first row fills up a batch that lacks some."""
    if not values.ndim:
        return values
    chosen = values[start : start + size]
    return np.concatenate([chosen, np.repeat(values[:1], size - len(chosen), axis=0)])
