"""How a .tflite uses the cores: the interpreters, their threads, and the batches they share."""

import dataclasses
from pathlib import Path

from ktransformer.numbers import to_integer
from ktransformer.runtime.threads import available_cores

LARGE = 20_000_000
"""Weights from which two threads speed up a step of one sentence; see docs/decoding.md."""
_MOST, _MOST_LARGE = 32, 64
"""The most hypotheses of a part: with more, a step's logits leave the processor's cache; with
fewer, the weights of a large model are read for too few of them."""
_SHARED_FROM = 8  # Hypotheses of a batch that interpreters share.
_HEAVY_BYTES = 100 << 20
MAX_REPLICAS = 8  # An interpreter has packed weights of its own.
_BYTES_OF_A_WEIGHT = {"none": 4, "float16": 2, "dynamic_int8": 1}


@dataclasses.dataclass(frozen=True)
class LitePlan:
    """The interpreters of a .tflite and what they do with a batch.

    Attributes:
        threads: The CPU threads of each interpreter. A batch that is not shared goes to the first
            one that is idle.
        shared_from: Hypotheses, texts times the beam size, from which the interpreters share a
            batch; None where a batch stays on one interpreter, as it does where the user sets
            `threads` or `replicas`. Then several batches may run at the same time.
        most: The most hypotheses that run at once on an interpreter.
    """

    threads: tuple[int, ...]
    shared_from: int | None = None
    most: int = 32

    @property
    def replicas(self) -> int:
        """The number of interpreters."""
        return len(self.threads)

    def __str__(self) -> str:
        counts = ", ".join(str(count) for count in self.threads)
        found = f"threads: {counts}; parts of at most {self.most} hypotheses"
        if self.replicas == 1:
            return f"1 interpreter, {found}"
        if self.shared_from is None:
            return f"{self.replicas} interpreters, {found}, a batch on each"
        shared = f"share a batch of at least {self.shared_from}"
        return f"{self.replicas} interpreters, {found}; they {shared}"


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
    large = count_weights(path, quantization) >= LARGE
    most = _MOST_LARGE if large else _MOST
    if threads is not None:
        threads = to_integer("threads", threads, least=1)
        return LitePlan((threads,) * (replicas or 1), most=most)
    cores = available_cores()
    if replicas is not None or not shared:
        each = max(cores // (replicas or 1), 1) if large else 1
        return LitePlan((each,) * (replicas or 1), most=most)
    if cores == 1:
        return LitePlan((1,), most=most)
    if not large:
        return LitePlan((1,) * min(cores, MAX_REPLICAS), _SHARED_FROM, most)
    # The first takes single sentences, on all cores. The second is opened when it is first used:
    # where its copy of the weights is a heavy one, only batches that need the memory anyway do.
    heavy = Path(path).stat().st_size > _HEAVY_BYTES
    return LitePlan((cores, -(-cores // 2)), most + 1 if heavy else _SHARED_FROM, most)


def count_weights(path: str | Path, quantization: str) -> int:
    """Estimates the number of a file's weights from its size."""
    return Path(path).stat().st_size // _BYTES_OF_A_WEIGHT.get(quantization, 4)
