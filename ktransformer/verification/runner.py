"""Runs the signatures of a model and of its exports on batches of examples, and times them."""

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.engines import CTranslate2Engine, PublishedModel, TaskModel, open_model
from ktransformer.errors import InputError
from ktransformer.exporting.matching import Outputs
from ktransformer.scores import score_texts
from ktransformer.tasks import SignatureCheck
from ktransformer.tasks.inputs import UNBATCHED
from ktransformer.verification.report import Result


class Export:
    """An export in any form, opened.

    Args:
        path: Its folder or file.
        threads: CPU threads of LiteRT, None for one a core; TensorFlow's are set for the process.

    Attributes:
        path: The folder or file.
        form: `SavedModel`, `tflite`, `CTranslate2`, `ONNX` or `Hugging Face`.
        description: Its description.
        load_seconds: Time to open it.

    Raises:
        InputError: There is no export, or a damaged one.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        start = time.perf_counter()
        model = open_model(path, threads=threads)
        if model.kind == TaskModel.kind:
            raise InputError(f"{path} is the folder of a model, not an export of one.")
        self._model = model
        self.load_seconds = time.perf_counter() - start
        self.path = Path(model.path or path)  # The numbered folder of a SavedModel.
        self.form = model.kind
        self.description = model.description

    @property
    def keeps_ids(self) -> bool:
        """Whether its ids are those of the model: a published folder numbers them anew."""
        return self.form != PublishedModel.kind

    @property
    def keeps_n_best(self) -> bool:
        """Whether its n-best lists are those of the model: CTranslate2 has a search of its own."""
        return self.form != CTranslate2Engine.kind

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
        rows = max(len(v) for name, v in inputs.items() if v.ndim and name not in UNBATCHED)
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, rows, size):
            chosen = {
                name: values if name in UNBATCHED else _rows(values, start, size)
                for name, values in inputs.items()
            }
            found = self._model.run(signature, **chosen)
            parts.append({name: values[: rows - start] for name, values in found.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(values: np.ndarray, start: int, size: int) -> np.ndarray:
    """Returns `size` rows from `start`; the first row fills up a batch that lacks some."""
    if not values.ndim:
        return values
    chosen = values[start : start + size]
    return np.concatenate([chosen, np.repeat(values[:1], size - len(chosen), axis=0)])


class Runner:
    """Runs one signature; keeps its times and the texts to be scored.

    Args:
        check: How the signature is compared.
        run: Runs it on its inputs by name.
    """

    def __init__(
        self,
        check: SignatureCheck,
        run: Callable[[dict[str, np.ndarray]], Outputs],
    ) -> None:
        self.check = check
        self._first_seconds = 0.0
        self._truncated = 0
        self._run = run
        self._seconds: list[float] = []  # For an example, of each batch.
        self._texts: dict[int, str] = {}

    def start(self, inputs: dict[str, np.ndarray]) -> None:
        """Runs a first time, which traces a graph or allocates memory."""
        begin = time.perf_counter()
        self._run(inputs)
        self._first_seconds = time.perf_counter() - begin

    def run(self, places: Collection[int], inputs: dict[str, np.ndarray]) -> Outputs:
        """Runs a batch.

        Args:
            places: The places of its examples among all.
            inputs: Its inputs, by name.
        """
        begin = time.perf_counter()
        outputs = self._run(inputs)
        self._seconds.append((time.perf_counter() - begin) / len(places))
        if self.check.regroup is not None:
            outputs = self.check.regroup(outputs)
        self._truncated += int(np.sum(outputs.get("truncated", 0)))
        if self.check.best_texts is not None:
            self._texts.update(zip(places, self.check.best_texts(outputs), strict=True))
        return outputs

    def result(
        self, references: Sequence[str] | None, *, load_seconds: float = 0.0, **fields: Any
    ) -> Result:
        """Returns the result, with the texts scored against the references, if there are any.

        Args:
            references: A text for each example; None for no scores.
            load_seconds: Time to open it.
            **fields: Other fields of the result.
        """
        scores = None
        if references is not None:
            scores = score_texts([self._texts[i] for i in range(len(references))], references)
        return Result(
            signature=self.check.signature,
            load_seconds=load_seconds + self._first_seconds,
            milliseconds=1000 * statistics.median(self._seconds),
            truncated=self._truncated,
            scores=scores,
            **fields,
        )


def run_model(
    function: Callable[..., Mapping[str, tf.Tensor]], inputs: dict[str, np.ndarray]
) -> Outputs:
    """Runs a function of named tensors on arrays, and returns arrays."""
    tensors = {name: tf.constant(values) for name, values in inputs.items()}
    return {name: tensor.numpy() for name, tensor in function(**tensors).items()}
