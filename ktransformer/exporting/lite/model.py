"""A .tflite that is opened and runs."""

import logging
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.exporting.lite.file_pages import MAPPING, Range, find_mappings, release_pages
from ktransformer.exporting.lite.model_file import (
    check_file,
    read_custom_operations,
    read_metadata,
)
from ktransformer.exporting.lite.plan import LitePlan, choose_plan
from ktransformer.exporting.lite.turns import Turns
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.tasks.description import Description
from ktransformer.tasks.inputs import ArraySpec, check_batch, check_inputs_ids, to_arrays

_log = logging.getLogger(__name__)


class LiteModel(OpenedExport):
    """A .tflite that `export_lite` wrote, opened.

    The graph is the file's; this only calls LiteRT's interpreter. Only a file with
    tensorflow-text's operations imports TensorFlow, which registers them. `run` may be called from
    as many threads as it has replicas at once; further ones wait for their turn, first come, first
    served.

    Attributes:
        kind: Its form, `tflite`.
        path: The file.
        description: Its description.
        plan: The interpreters and their threads, as chosen or given.

    Args:
        path: The file.
        described: The class of its description; `Description` for any kind of model.
        threads: CPU threads of each interpreter, at least 1; None to choose by the model's size.
        replicas: Interpreters of the file, at least 1; None to choose. Each has its own
            activations and its own copy of the weights, packed for its kernels.
        shared: Whether the caller splits batches, so that more than one interpreter may be chosen.
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
        threads: int | None = None,
        replicas: int | None = None,
        shared: bool = False,
        check: bool = True,
    ) -> None:
        self.path = Path(path)
        place = _keep_open(self)
        self.description: Any = described.from_json(read_metadata(path), path)
        if check and self.description.has_checksums:
            check_file(path)
        self.plan: LitePlan = choose_plan(
            path, self.description.quantization, threads=threads, replicas=replicas, shared=shared
        )
        _log.debug("%s: %s.", self.path, self.plan)
        self._custom = bool(read_custom_operations(path))
        names = self.description.signatures
        self._replicas = [
            _Replica(place, self.path, names, each, custom=self._custom)
            for each in self.plan.threads
        ]
        # The first that is idle is the next: where one batch runs at a time, only one takes memory.
        self._turns = Turns(self._replicas)
        # Where replicas are chosen, the others are opened when they are first used.
        for replica in self._replicas[: None if self.plan.shared_from is None else 1]:
            replica.open()
        self._specs = {
            name: {key: _spec(details) for key, details in runner.get_input_details().items()}
            for name, runner in self._replicas[0].open().items()
        }

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's inputs."""
        return sorted(self._inputs(signature))

    def _inputs(self, signature: str) -> dict[str, ArraySpec]:
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
        return self._run(signature, inputs)

    def run_part(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature on a part of a batch that interpreters share, as `run`."""
        return self._run(signature, inputs, last=True)

    def _run(
        self, signature: str, inputs: dict[str, np.ndarray], *, last: bool = False
    ) -> dict[str, np.ndarray]:
        specs = self._inputs(signature)
        arrays = to_arrays(signature, specs, inputs)
        check_batch(arrays)
        check_inputs_ids(specs, arrays, self.description)
        try:
            with self._turns.take(last=last) as replica:
                outputs = replica.run(signature, arrays)
        except InputError:
            raise
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
        for replica in self._replicas:
            for name, runner in replica.open().items():
                if name not in stateful and (signatures is None or name in signatures):
                    details = runner.get_input_details()
                    replica.run(name, {key: _smallest(each) for key, each in details.items()})


class _Replica:
    """One interpreter, opened when it is first used; for one thread at a time.

    Args:
        place: Where the file can be opened, whatever its path leads to by then.
        path: The file, for messages.
        signatures: The names of its signatures.
        threads: CPU threads.
        custom: Whether it has tensorflow-text's operations.
    """

    def __init__(
        self, place: str, path: Path, signatures: Sequence[str], threads: int, *, custom: bool
    ) -> None:
        self._place, self._path, self._signatures = place, path, signatures
        self._mappings: Sequence[Range] = ()
        self._threads, self._custom = threads, custom
        self._runners: dict[str, Any] | None = None
        self._runs = 0

    def open(self) -> dict[str, Any]:
        """Returns the runners, by signature, which keep the interpreter alive.

        Raises:
            InputError: The file is damaged.
        """
        if self._runners is None:
            try:
                with MAPPING:
                    before = find_mappings(self._place)
                    opened = self._interpreter()
                    self._mappings = [*(find_mappings(self._place) - before)]
                self._runners = {
                    name: opened.get_signature_runner(name) for name in self._signatures
                }
            except (ValueError, RuntimeError) as error:
                raise InputError(f"{self._path} is a .tflite file, but a damaged one.") from error
        return self._runners

    def run(self, signature: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature."""
        outputs: dict[str, np.ndarray] = self.open()[signature](**arrays)
        self._runs += 1
        if self._runs.bit_count() == 1:  # After 1, 2, 4, 8 ... runs: loops pack weights later.
            release_pages(self._mappings)
        return outputs

    def _interpreter(self) -> Any:
        if not self._custom:
            return Interpreter(model_path=self._place, num_threads=self._threads)
        import tensorflow_text

        return InterpreterWithCustomOps(
            model_path=self._place,
            custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
            num_threads=self._threads,
        )


def _keep_open(model: LiteModel) -> str:
    """Keeps a model's file open; returns a path that leads to it as long as the model lives.

    So all interpreters read one file, if another one takes its place or it is deleted.
    """
    try:
        file = os.open(model.path, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"Cannot read {model.path}: {error.strerror}.") from error
    weakref.finalize(model, os.close, file)
    place = f"/proc/self/fd/{file}"
    return place if os.path.exists(place) else os.path.abspath(model.path)


def _spec(details: dict[str, Any]) -> ArraySpec:
    """Returns the type and rank of an input; LiteRT itself says which lengths it can take."""
    return ArraySpec(len(details["shape_signature"]), np.dtype(details["dtype"]))


def _smallest(details: dict[str, Any]) -> np.ndarray:
    """Makes an input of LiteRT's details: ones, or texts, of length 1 where they leave it open."""
    shape = [max(length, 1) for length in details["shape_signature"]]
    if details["dtype"] is np.bytes_:
        return np.full(shape, b"a", dtype=object)
    return np.ones(shape, details["dtype"])
