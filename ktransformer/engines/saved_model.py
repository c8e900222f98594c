"""Translates with a SavedModel."""

from pathlib import Path

import numpy as np

from ktransformer.engines.engine import Engine
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.exporting.saved_model.opened import SavedModel
from ktransformer.tasks import TranslatorDescription


class SavedModelEngine(OpenedExport, Engine):
    """Runs a translator's SavedModel that `export_saved_model` wrote.

    Args:
        path: Its folder, or the folder of the numbered ones, of which the highest is taken.
        check: As for `SavedModel`.

    Raises:
        InputError: There is no such export, or it is damaged or of another kind, or has operations
            that no export has.
    """

    kind = SavedModel.kind

    def __init__(self, path: str | Path, *, check: bool = True) -> None:
        self._model = SavedModel(path, TranslatorDescription, check=check)
        super().__init__(self._model.description, self._model.path)

    def run(self, signature: str, texts: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        return self._model.run(signature, texts=texts, **others)

    def warmup(self) -> None:
        self._model.warmup()
