"""Runs a .tflite from text to text."""

from pathlib import Path

import numpy as np
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.lite.model_file import read_metadata
from ktransformer.serving import Description, Engine


class LiteTranslator(Engine):
    """Translates with a .tflite that `export_lite` wrote.

    The graph is the file's; this only calls LiteRT's interpreter, with tensorflow-text's
    operations registered.

    Args:
        path: The file.
        threads: CPU threads of the interpreter.

    Raises:
        InputError: It is no .tflite, or a damaged one, or not one of ktransformer's.

    Example:
        ```python
        LiteTranslator("model.tflite", threads=2).translate(["Two dogs are running."])
        ```
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        super().__init__(Description.from_json(read_metadata(path), path), Path(path))
        try:
            self._interpreter = InterpreterWithCustomOps(
                model_path=str(path),
                custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
                num_threads=threads,
            )
        except ValueError as error:
            raise InputError(f"{path} is a .tflite file, but a damaged one.") from error
        self._runners = {
            name: self._interpreter.get_signature_runner(name)
            for name in self._interpreter.get_signature_list()
        }

    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        outputs: dict[str, np.ndarray] = self._runners[signature](texts=texts)
        return outputs
