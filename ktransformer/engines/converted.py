"""Translates with a folder in the format of another library."""

from pathlib import Path

import numpy as np

from ktransformer.conversion.converted_model import ConvertedModel
from ktransformer.conversion.ctranslate2 import CTranslate2Model
from ktransformer.conversion.onnx_model import OnnxModel
from ktransformer.engines.documents import find_with_tokenizer
from ktransformer.engines.engine import Engine
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.numbers import to_integer


class ConvertedEngine(OpenedExport, Engine):
    """Runs an opened folder in the format of another library.

    Args:
        model: The opened folder.
        replicas: Batches that `translate_blocks` and `translate_lines` run at the same time.
    """

    def __init__(self, model: ConvertedModel, *, replicas: int = 1) -> None:
        super().__init__(model.description, model.path)
        self._model: ConvertedModel = model
        self.concurrency = to_integer("replicas", replicas)

    def run(self, signature: str, texts: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        return self._model.run(signature, texts=texts, **others)

    def find_sentences(
        self, documents: np.ndarray, *, reserved: int = 0, copied: bool = True
    ) -> dict[str, np.ndarray]:
        """Finds the sentences of documents; see `Engine`."""
        return find_with_tokenizer(documents, self._model.tokenizer, self.description, reserved)


class CTranslate2Engine(ConvertedEngine):
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
        model = CTranslate2Model(path, threads=threads, replicas=replicas, check=check)
        super().__init__(model, replicas=replicas)


class OnnxEngine(ConvertedEngine):
    """Runs a translator's ONNX folder that `export_onnx` wrote.

    Args:
        path: The folder.
        threads: CPU threads of a step, at least 1.
        check: As for `OnnxModel`.

    Raises:
        InputError: See `OnnxModel`.
    """

    kind = OnnxModel.kind

    def __init__(self, path: str | Path, *, threads: int = 1, check: bool = True) -> None:
        super().__init__(OnnxModel(path, threads=threads, check=check))
