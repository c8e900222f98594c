"""An ONNX folder that is opened and runs: ONNX Runtime's steps in our search."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.conversion.converted_model import ConvertedModel
from ktransformer.conversion.onnx import SIGNATURES, import_converter
from ktransformer.decoding import StepFunctionModel
from ktransformer.errors import InputError, first_line
from ktransformer.numbers import to_integer
from ktransformer.tasks import TEXT_SIGNATURES
from ktransformer.tasks.decoding_rules import to_rules
from ktransformer.tasks.written_texts import end_empty, search_texts


def is_onnx(path: str | Path) -> bool:
    """Tells whether a path looks like an ONNX folder of ours."""
    return (Path(path) / f"{SIGNATURES[0]}.onnx").is_file()


class OnnxModel(ConvertedModel):
    """An ONNX folder that `export_onnx` wrote, opened.

    The search is the package's, step by step; `encode` and `decode_step` run in ONNX Runtime.

    Attributes:
        kind: Its form, `ONNX`.
        description: Its description; the signatures are those that take texts.

    Args:
        path: The folder.
        threads: CPU threads of a step, at least 1.
        check: Whether the files are compared with their checksums.

    Raises:
        InputError: There is no such folder, or it is damaged or not one of ktransformer's, or the
            package onnxruntime is not installed; or `threads` is below 1.
    """

    kind = "ONNX"
    WEIGHTS = tuple(f"{name}.onnx" for name in SIGNATURES)

    def __init__(self, path: str | Path, *, threads: int = 1, check: bool = True) -> None:
        threads = to_integer("threads", threads, least=1)
        super().__init__(path, check=check)
        self.description = dataclasses.replace(self.description, signatures=TEXT_SIGNATURES)
        self._encode, self._step = (_Session(self.path / name, threads) for name in self.WEIGHTS)

    def search(self, source: np.ndarray, n_best: int) -> tuple[tf.Tensor, np.ndarray]:
        decoding = self.description.decoding
        state = self._encode.run(source=source)
        limits = tf.constant(state.pop("limits"))
        rows = {key: tf.repeat(value, decoding.beam_size, axis=0) for key, value in state.items()}
        best = search_texts(
            StepFunctionModel(self._run_step, rows),
            limits,
            self._target.special_ids,
            decoding,
            n_best=n_best,
            rules=to_rules(decoding, tf.constant(source), self._target.special_ids.pad),
            unwritten=self._target.unwritten_ids,
        )
        best = end_empty(tf.constant(source), best, self._target.special_ids, self._language)
        return tf.reshape(best.ids, [-1, tf.shape(best.ids)[2]]), best.scores.numpy()

    def _run_step(
        self, ids: tf.Tensor, index: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        found = self._step.run(ids=ids, index=index, **state)
        logits = tf.constant(found.pop("logits"))
        return logits, state | {
            key.removeprefix("next_"): tf.constant(value) for key, value in found.items()
        }


class _Session:
    """One ONNX file in ONNX Runtime, on the CPU."""

    def __init__(self, file: Path, threads: int) -> None:
        _, runtime = import_converter()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has exceptions of its own.
            raise InputError(f"ONNX Runtime cannot open {file}: {first_line(error)}.") from error
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, **inputs: Any) -> dict[str, np.ndarray]:
        feed = {key: np.asarray(value) for key, value in inputs.items()}
        return dict(zip(self._names, self._session.run(self._names, feed), strict=True))
