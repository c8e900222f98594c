"""The settings of an export."""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Self

from ktransformer.config.checks import check, check_integers, check_range
from ktransformer.numbers import to_integer


@dataclasses.dataclass(frozen=True)
class BatchingConfig:
    """How an export joins the texts of concurrent requests into batches.

    A batch starts when it is full or its first text has waited for `timeout_ms`, as soon as one of
    `threads` is free; while all are busy, requests gather. A request that comes alone waits the
    whole time for others: with 0 it waits for a free thread at most.
    """

    max_texts: int = 32
    """Texts in a batch at most."""
    timeout_ms: float = 0.0
    """Milliseconds that a batch waits to be filled."""
    threads: int = 1
    """Batches run at a time."""

    def __post_init__(self) -> None:
        check_integers(self)
        check_range(self, "max_texts", least=1)
        check_range(self, "timeout_ms", least=0, most=60_000)
        check_range(self, "threads", least=1)


@dataclasses.dataclass(frozen=True)
class CompilationConfig:
    """In which shapes XLA compiles the searches of an export.

    A batch of texts is padded to the smallest shape that has room for it. One of `LEAST_SPLIT`
    texts and more, or that no shape has room for, is first split into parts of like length. A batch
    with a text that is too long for the shapes runs without XLA.
    """

    LEAST_SPLIT: ClassVar[int] = 8
    SMALL_MODEL_SIZES: ClassVar[tuple[int, ...]] = (1, 4, 8)
    LARGE_MODEL_SIZES: ClassVar[tuple[int, ...]] = (1, 4, 8, 16, 32)
    LARGE_MODEL_WEIGHTS: ClassVar[int] = 20_000_000

    batch_sizes: tuple[int, ...] | None = None
    """Texts in a whole batch or in a part. None: chosen by the number of weights; a large model
    gets larger parts, because each part reads all weights."""
    lengths: tuple[int, ...] = (16, 32, 64)
    """Tokens of the longest text, the end token included."""
    parts: int = 2
    """Parts that run at a time; a batch that is split has at least so many."""

    def __post_init__(self) -> None:
        names = ("lengths",) if self.batch_sizes is None else ("batch_sizes", "lengths")
        for name in names:
            sizes = getattr(self, name)
            several = isinstance(sizes, Iterable) and not isinstance(sizes, str) and any(sizes)
            check(several, f"{name} must be some integers above 0", **{name: sizes})
            numbers = {to_integer(name, size, least=1) for size in sizes}
            object.__setattr__(self, name, tuple(sorted(numbers)))
        check_range(self, "parts", least=1)

    def resolved_for(self, weights: int) -> Self:
        """Returns the same for a model of so many weights, with nothing left open."""
        if self.batch_sizes is not None:
            return self
        is_large = weights >= self.LARGE_MODEL_WEIGHTS
        sizes = self.LARGE_MODEL_SIZES if is_large else self.SMALL_MODEL_SIZES
        return dataclasses.replace(self, batch_sizes=sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """`batch_sizes`, which `resolved_for` has chosen where they were open."""
        if self.batch_sizes is None:
            raise ValueError("batch_sizes is chosen by resolved_for; got None.")
        return self.batch_sizes

    @property
    def request_sizes(self) -> tuple[int, ...]:
        """For each of `sizes`, a number of texts that are searched in parts of that size."""
        return tuple(size if size < self.LEAST_SPLIT else size * self.parts for size in self.sizes)
