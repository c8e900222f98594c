"""How a .tflite uses the cores: the interpreters, their threads, and the batches they share."""

import dataclasses
from pathlib import Path

from ktransformer.numbers import to_integer
from ktransformer.runtime.threads import available_cores

LARGE = 20_000_000
"""Weights from which two threads speed up a step of one sentence; see docs/decoding.md."""
MAX_REPLICAS = 8  # An interpreter has packed weights of its own.
_BYTES_OF_A_WEIGHT = {"none": 4, "float16": 2, "dynamic_int8": 1}


@dataclasses.dataclass(frozen=True)
class LitePlan:
    """The interpreters of a .tflite and what they do with a batch.

    Attributes:
        threads: The CPU threads of each interpreter. A batch that is not shared goes to the first
            one that is idle.
        shared: Whether the interpreters share the texts of one batch. Where the user sets
            `threads` or `replicas`, a batch stays on one interpreter, and several batches may run
            at the same time.
    """

    threads: tuple[int, ...]
    shared: bool = False

    @property
    def replicas(self) -> int:
        """The number of interpreters."""
        return len(self.threads)

    def __str__(self) -> str:
        counts = ", ".join(str(count) for count in self.threads)
        way = "which share each batch" if self.shared else "a batch on each"
        if self.replicas == 1:
            return f"1 interpreter, threads: {counts}"
        return f"{self.replicas} interpreters, threads: {counts}, {way}"


def choose_plan(
    path: str | Path,
    quantization: str,
    *,
    threads: int | None = None,
    replicas: int | None = None,
    shared: bool = True,
) -> LitePlan:
    """Chooses what the user leaves open, from the number of weights and of cores.

    Args:
        path: The file.
        quantization: How its weights are stored; see `Description`.
        threads: CPU threads of each interpreter, at least 1; None to choose.
        replicas: Interpreters, at least 1; None to choose: 1 if `threads` is given.
        shared: Whether the caller can split a batch; without, one interpreter is chosen.

    Raises:
        InputError: `threads` or `replicas` is below 1.
    """
    if replicas is not None:
        replicas = to_integer("replicas", replicas, least=1)
    if threads is not None:
        threads = to_integer("threads", threads, least=1)
        return LitePlan((threads,) * (replicas or 1))
    cores = available_cores()
    large = count_weights(path, quantization) >= LARGE
    if replicas is not None or not shared:
        each = max(cores // (replicas or 1), 1) if large else 1
        return LitePlan((each,) * (replicas or 1))
    count = min(cores, MAX_REPLICAS)
    if large:
        # The first takes single sentences, on all cores; the weights are there twice at most.
        return LitePlan((cores, *[-(-cores // 2)] * (count > 1)), shared=count > 1)
    return LitePlan((1,) * count, shared=count > 1)


def count_weights(path: str | Path, quantization: str) -> int:
    """Estimates the number of a file's weights from its size."""
    return Path(path).stat().st_size // _BYTES_OF_A_WEIGHT.get(quantization, 4)
