"""How a .tflite uses the cores: the interpreters, their threads, and the batches they share."""

import dataclasses
from pathlib import Path

from ktransformer.numbers import to_integer
from ktransformer.runtime.threads import available_cores

LARGE = 20_000_000
"""Weights from which two threads speed up a step of one sentence; see docs/decoding.md."""
_MOST = 32  # Hypotheses of a part: with more, a step's logits leave the processor's cache.
LEAST = 4
"""The fewest hypotheses for an interpreter that shares a batch: fewer do not repay its steps."""
_SHARED_FROM, _LARGE_SHARED_FROM, _HEAVY_SHARED_FROM = 8, 16, 2 * _MOST + 1  # Hypotheses.
_HEAVY_BYTES = 100 << 20
MAX_REPLICAS = 8  # An interpreter has packed weights of its own.
_BYTES_OF_A_WEIGHT = {"none": 4, "float16": 2, "dynamic_int8": 1}


@dataclasses.dataclass(frozen=True)
class LitePlan:
    """The interpreters of a .tflite and what they do with a batch.

    Attributes:
        threads: The CPU threads of each interpreter. A batch that is not shared goes to the first
            one that is idle.
        shared_from: Hypotheses, texts times the beam size, from which interpreters share a batch;
            None where a batch stays on one interpreter, as it does where the user sets `threads`
            or `replicas`. Then several batches may run at the same time.
        sharers: How many interpreters, the last ones, share a batch; None for all.
        most: The most hypotheses that run at once on an interpreter.
    """

    threads: tuple[int, ...]
    shared_from: int | None = None
    sharers: int | None = None
    most: int = _MOST

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
        who = "they share" if self.sharers is None else f"the last {self.sharers} share"
        return (
            f"{self.replicas} interpreters, {found}; {who} a batch of at least {self.shared_from}"
        )


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
    if threads is not None:
        threads = to_integer("threads", threads, least=1)
        return LitePlan((threads,) * (replicas or 1))
    cores = available_cores()
    if replicas is not None or not shared:
        each = max(cores // (replicas or 1), 1) if large else 1
        return LitePlan((each,) * (replicas or 1))
    if cores == 1:
        return LitePlan((1,))
    if not large:
        return LitePlan((1,) * min(cores, MAX_REPLICAS), _SHARED_FROM)
    # The first takes small batches, on all cores; two others share the cores and large batches.
    # They are opened when they are first used: where a copy of the weights is a heavy one, only
    # batches that need the memory anyway open them.
    heavy = Path(path).stat().st_size > _HEAVY_BYTES
    halves = (cores // 2, cores - cores // 2)
    shared_from = _HEAVY_SHARED_FROM if heavy else _LARGE_SHARED_FROM
    return LitePlan((cores, *halves), shared_from, len(halves))


def count_weights(path: str | Path, quantization: str) -> int:
    """Estimates the number of a file's weights from its size."""
    return Path(path).stat().st_size // _BYTES_OF_A_WEIGHT.get(quantization, 4)
