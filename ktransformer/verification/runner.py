"""Runs one signature of a model or of an export on batches of examples, and times it."""

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.exporting.matching import Outputs
from ktransformer.scores import score_texts
from ktransformer.tasks import SignatureCheck
from ktransformer.verification.report import Result


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
