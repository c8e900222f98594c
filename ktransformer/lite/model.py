"""A .tflite that is opened and runs."""

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.lite.model_file import check_file, read_metadata
from ktransformer.serving import Description


class LiteModel:
    """A .tflite that `export_lite` wrote, opened.

    The graph is the file's; this only calls LiteRT's interpreter, with tensorflow-text's
    operations registered. `run` may be called from as many threads as it has replicas at once;
    further ones wait for their turn.

    Attributes:
        kind: What it is, `tflite`.
        path: The file.
        description: What it says about itself.

    Args:
        path: The file.
        described: The class of its description; `Description` for any kind of model.
        threads: CPU threads of each interpreter, at least 1.
        replicas: Interpreters of the file, at least 1. Its pages are read once for all of them;
            what they compute, and the weights as their kernels pack them, is each one's own.
        check: Whether the file is compared with its checksum. LiteRT trusts a file: a damaged one
            may end the process or give other outputs.

    Raises:
        InputError: It is no .tflite, or a damaged one, or not one of ktransformer's, or of another
            kind.
        ValueError: `threads` or `replicas` is below 1.
    """

    kind = "tflite"

    def __init__(
        self,
        path: str | Path,
        described: type[Description] = Description,
        *,
        threads: int = 1,
        replicas: int = 1,
        check: bool = True,
    ) -> None:
        for name, value in (("threads", threads), ("replicas", replicas)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={value}.")
        self.path = Path(path)
        self.description: Any = described.from_json(read_metadata(path), path)
        if check and self.description.has_checksums:
            check_file(path)
        self._replicas = [self._open_runners(threads) for _ in range(replicas)]
        # The last one used is the next: where one batch runs at a time, only one takes memory.
        self._idle: queue.LifoQueue[dict[str, Any]] = queue.LifoQueue()
        for runners in self._replicas:
            self._idle.put(runners)

    def _open_runners(self, threads: int) -> dict[str, Any]:
        """Opens an interpreter; its runners, by signature, keep it alive."""
        try:
            interpreter = InterpreterWithCustomOps(
                model_path=str(self.path),
                custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
                num_threads=threads,
            )
            return {
                name: interpreter.get_signature_runner(name) for name in self.description.signatures
            }
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self.path} is a .tflite file, but a damaged one.") from error

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of what a signature takes."""
        return sorted(self._replicas[0][signature].get_input_details())

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature.

        Raises:
            InputError: The file cannot be run: it is damaged, or the inputs do not fit it.
        """
        runners = self._idle.get()
        try:
            outputs: dict[str, np.ndarray] = runners[signature](**inputs)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"LiteRT cannot run {self.path}: {reason}") from error
        finally:
            self._idle.put(runners)
        return outputs

    def warmup(self, signatures: Sequence[str] | None = None) -> None:
        """Runs signatures of a single input once, so that no user's run is the first.

        LiteRT lays out a signature's memory and packs its weights when it is first run, in each
        replica. What takes the state of another signature, as `decode_step` does, is left out.
        Call it before other threads use the model.

        Args:
            signatures: Which, as far as the file has them; None for all.
        """
        for runners in self._replicas:
            for name, runner in runners.items():
                details = runner.get_input_details()
                if len(details) == 1 and (signatures is None or name in signatures):
                    runner(**{name: _smallest(each) for name, each in details.items()})


def _smallest(details: dict[str, Any]) -> np.ndarray:
    """Makes an input of LiteRT's details, with a length of 1 wherever they leave it open."""
    shape = [max(length, 1) for length in details["shape_signature"]]
    if details["dtype"] is np.bytes_:
        return np.full(shape, b"a", dtype=object)
    return np.ones(shape, details["dtype"])
