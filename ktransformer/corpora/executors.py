"""Runs the shards of a corpus in this process."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from ktransformer.corpora.job import Job
from ktransformer.corpora.report import Report
from ktransformer.corpora.shards import Shard
from ktransformer.corpora.worker import ShardTranslator
from ktransformer.runtime.threads import available_cores, set_threads


class Executor(Protocol):
    """Runs shards, in this process or on a cluster."""

    def check(self) -> None:
        """Opens the model in a worker; raises what is wrong with it or with the options."""

    def run(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Report]]:
        """Yields each shard with its report, as they are done."""


class LocalExecutor:
    """Runs shards one after the other in this process, several batches of each at once.

    Args:
        job: The job.
        output: The output folder.
        checksums: See `ShardTranslator`.
        workers: Batches at the same time; None for one a core.
    """

    def __init__(
        self, job: Job, output: str, checksums: dict[str, str | None], workers: int | None = None
    ) -> None:
        concurrency = workers or available_cores()
        with contextlib.suppress(RuntimeError):  # TensorFlow already runs, with its own threads.
            set_threads(1, batches=concurrency)
        self._worker = ShardTranslator(job, output, checksums, concurrency=concurrency)

    def check(self) -> None:
        """Does nothing: the model is open."""

    def run(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Report]]:
        for shard in shards:
            yield shard, self._worker.run(shard)
        self._worker.close()
