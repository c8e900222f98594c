"""A .tflite that is opened and runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.exporting.lite.model_file import check_file, read_metadata
from ktransformer.exporting.lite.turns import Turns
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.numbers import to_integer
from ktransformer.tasks import Description
from ktransformer.tasks.inputs import check_inputs_ids, to_arrays


class LiteModel(OpenedExport):
    """A .tflite that `export_lite` wrote, opened.

    The graph is the file's; this only calls LiteRT's interpreter, with tensorflow-text's
    operations registered. `run` may be called from as many threads as it has replicas at once;
    further ones wait for their turn, first come, first served.

    Attributes:
        kind: Its form, `tflite`.
        path: The file.
        description: Its description.

    Args:
        path: The file.
        described: The class of its description; `Description` for any kind of model.
        threads: CPU threads of each interpreter, at least 1.
        replicas: Interpreters of the file, at least 1. Its pages are read once for all of them;
            each has its own activations and its own copy of the weights, packed for its kernels.
        check: Whether the file is compared with its checksum. LiteRT trusts a file: a damaged one
            may end the process or give other outputs.

    Raises:
        InputError: It is no .tflite, or a damaged one, or not one of ktransformer's, or of another
            kind; or `threads` or `replicas` is below 1.
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
        threads = to_integer("threads", threads, least=1)
        replicas = to_integer("replicas", replicas, least=1)
        self.path = Path(path)
        self.description: Any = described.from_json(read_metadata(path), path)
        if check and self.description.has_checksums:
            check_file(path)
        self._replicas = [self._open_runners(threads) for _ in range(replicas)]
        # The last one used is the next: where one batch runs at a time, only one takes memory.
        self._turns = Turns(self._replicas)
        self._specs = {
            name: {key: _spec(details) for key, details in runner.get_input_details().items()}
            for name, runner in self._replicas[0].items()
        }

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
        """Returns the names of a signature's inputs."""
        return sorted(self._inputs(signature))

    def _inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Returns the inputs of a signature."""
        if signature not in self._specs:
            known = ", ".join(self._specs)
            raise InputError(f"{self.path} has no signature {signature!r}, only {known}.")
        return self._specs[signature]

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature; callers are served in the order in which they come.

        Raises:
            InputError: There is no such signature, it takes other inputs, or the file is damaged.
        """
        specs = self._inputs(signature)
        arrays = to_arrays(signature, specs, inputs)
        check_inputs_ids(specs, arrays, self.description)
        try:
            with self._turns.take() as runners:
                outputs: dict[str, np.ndarray] = runners[signature](**arrays)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"LiteRT cannot run {self.path}: {reason}") from error
        return outputs

    def warmup(self, signatures: Sequence[str] | None = None) -> None:
        """Runs each signature once on the smallest inputs, so that no user's run is the first.

        LiteRT lays out a signature's memory and packs its weights when it is first run, in each
        replica. A signature that takes the state of another, as `decode_step` does, is left out.
        Call it before other threads use the model.

        Args:
            signatures: The names of those to run, as far as the file has them; None for all.
        """
        stateful = self.description.STATEFUL
        for runners in self._replicas:
            for name, runner in runners.items():
                if name not in stateful and (signatures is None or name in signatures):
                    details = runner.get_input_details()
                    runner(**{key: _smallest(each) for key, each in details.items()})


def _spec(details: dict[str, Any]) -> tf.TensorSpec:
    """Returns the type and rank of an input; LiteRT itself says which lengths it can take."""
    rank, dtype = len(details["shape_signature"]), details["dtype"]
    return tf.TensorSpec([None] * rank, tf.string if dtype is np.bytes_ else dtype)


def _smallest(details: dict[str, Any]) -> np.ndarray:
    """Makes an input of LiteRT's details: ones, or texts, of length 1 where they leave it open."""
    shape = [max(length, 1) for length in details["shape_signature"]]
    if details["dtype"] is np.bytes_:
        return np.full(shape, b"a", dtype=object)
    return np.ones(shape, details["dtype"])
