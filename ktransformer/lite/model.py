"""A .tflite that is opened and runs."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.lite.model_file import read_metadata
from ktransformer.serving import Description


class LiteModel:
    """A .tflite that `export_lite` wrote, opened.

    The graph is the file's; this only calls LiteRT's interpreter, with tensorflow-text's
    operations registered.

    Attributes:
        kind: What it is, `tflite`.
        path: The file.
        description: What it says about itself.

    Args:
        path: The file.
        described: The class of its description; `Description` for any kind of model.
        threads: CPU threads of the interpreter, at least 1.

    Raises:
        InputError: It is no .tflite, or a damaged one, or not one of ktransformer's, or of another
            kind.
        ValueError: `threads` is below 1.
    """

    kind = "tflite"

    def __init__(
        self, path: str | Path, described: type[Description] = Description, *, threads: int = 1
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1; got threads={threads}.")
        self.path = Path(path)
        self.description: Any = described.from_json(read_metadata(path), path)
        try:
            self._interpreter = InterpreterWithCustomOps(
                model_path=str(path),
                custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
                num_threads=threads,
            )
            self._runners = {
                name: self._interpreter.get_signature_runner(name)
                for name in self.description.signatures
            }
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} is a .tflite file, but a damaged one.") from error

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of what a signature takes."""
        return sorted(self._runners[signature].get_input_details())

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature.

        Raises:
            InputError: The file cannot be run: it is damaged, or the inputs do not fit it.
        """
        try:
            outputs: dict[str, np.ndarray] = self._runners[signature](**inputs)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"LiteRT cannot run {self.path}: {reason}") from error
        return outputs

    def warmup(self) -> None:
        """Runs every signature of a single input once, so that no user's run is the first.

        LiteRT lays out a signature's memory and packs its weights when it is first run. What takes
        the state of another signature, as `decode_step` does, is left out.
        """
        for signature in self._runners:
            details = self._runners[signature].get_input_details()
            if len(details) == 1:
                self.run(signature, **{name: _smallest(each) for name, each in details.items()})


def _smallest(details: dict[str, Any]) -> np.ndarray:
    """Makes an input of LiteRT's details, with a length of 1 wherever they leave it open."""
    shape = [max(length, 1) for length in details["shape_signature"]]
    if details["dtype"] is np.bytes_:
        return np.full(shape, b"a", dtype=object)
    return np.ones(shape, details["dtype"])
