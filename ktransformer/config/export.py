"""The settings of an export."""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

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
    SMALL: ClassVar[tuple[int, ...]] = (1, 4, 8)
    LARGE: ClassVar[tuple[int, ...]] = (*SMALL, 16, 32)

    batch_sizes: tuple[int, ...] | None = None
    """Texts in a batch that is not split, or in each part; None for `LARGE` where a model has
    `LARGE_FROM` weights, which are read for each part anew, and `SMALL` below."""
    lengths: tuple[int, ...] = (16, 32, 64)
    """Tokens of the longest text, the end token included."""
    parts: int = 2
    """The fewest parts of a batch that is split; so many run side by side."""

    LARGE_FROM: ClassVar[int] = 20_000_000

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "lengths"):
            sizes = getattr(self, name)
            if name == "batch_sizes" and sizes is None:
                continue
            several = isinstance(sizes, Iterable) and not isinstance(sizes, str) and any(sizes)
            check(several, f"{name} must be some integers above 0", **{name: sizes})
            numbers = {to_integer(name, size, least=1) for size in sizes}
            object.__setattr__(self, name, tuple(sorted(numbers)))
        check_range(self, "parts", least=1)

    def sizes_for(self, weights: int) -> tuple[int, ...]:
        """Returns the sizes of batches and parts for a model of so many weights."""
        if self.batch_sizes is not None:
            return self.batch_sizes
        return self.LARGE if weights >= self.LARGE_FROM else self.SMALL

    @property
    def request_sizes(self) -> tuple[int, ...]:
        """For each of `batch_sizes`, a number of texts that are searched in parts of that size."""
        return tuple(
            size if size < self.LEAST_SPLIT else size * self.parts
            for size in self.batch_sizes or ()
        )
