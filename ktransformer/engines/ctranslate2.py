"""Translates with CTranslate2."""

from pathlib import Path

import numpy as np

from ktransformer.conversion.ctranslate2 import CTranslate2Model
from ktransformer.engines.engine import Engine
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.numbers import to_integer


class CTranslate2Engine(OpenedExport, Engine):
    """Runs a translator's CTranslate2 folder that `export_ctranslate2` wrote.

    Args:
        path: The folder.
        threads: CPU threads of a batch, at least 1.
        replicas: Batches that `translate_blocks` and `translate_lines` run at the same time.
        check: As for `CTranslate2Model`.

    Raises:
        InputError: See `CTranslate2Model`.
    """

    kind = CTranslate2Model.kind

    def __init__(
        self, path: str | Path, *, threads: int = 1, replicas: int = 1, check: bool = True
    ) -> None:
        self._model = CTranslate2Model(path, threads=threads, replicas=replicas, check=check)
        super().__init__(self._model.description, self._model.path)
        self.concurrency = to_integer("replicas", replicas)

    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        return self._model.run(signature, texts=texts)
