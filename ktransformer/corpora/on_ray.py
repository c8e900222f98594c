"""Runs the shards of a corpus on a Ray cluster.

Each shard is a task of Ray on one CPU. A process that Ray starts for such tasks opens the model
once and keeps it for the following ones. Ray runs a task again whose process or node has died, on
any node that has a CPU left.
"""

import functools
import pickle
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ktransformer.corpora.job import Job
from ktransformer.corpora.report import Report
from ktransformer.corpora.shards import Shard
from ktransformer.corpora.worker import ShardTranslator
from ktransformer.runtime.ray_cluster import MAX_RETRIES, cluster_cpus, task_result
from ktransformer.runtime.threads import set_threads

_LOOK_SECONDS = 5.0  # How often the number of the cluster's CPUs is asked for.


class RayExecutor:
    """Runs shards on the cluster that this process has joined.

    Args:
        job: The job.
        output: The output folder, on every node.
        checksums: See `ShardTranslator`.
        workers: Shards at the same time; None for as many as the cluster has CPUs, at any time.
    """

    def __init__(
        self, job: Job, output: str, checksums: dict[str, str | None], workers: int | None = None
    ) -> None:
        import ray

        self._settings = ray.put(pickle.dumps((job, output, checksums)))
        remote: Any = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)
        self._run = remote(run_shard)
        self._workers = workers
        self._cpus = (-_LOOK_SECONDS, 1)  # When it was asked for, and the number.

    def check(self) -> None:
        """Opens the model in one worker.

        Raises:
            InputError: See `ShardTranslator`.
        """
        task_result(self._run.remote(self._settings, None), "the model")

    def run(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Report]]:
        """Yields each shard with its report, as they are done.

        Raises:
            InputError: See `ShardTranslator`, or a shard's processes have died too often.
        """
        import ray

        left = iter(shards)
        running: dict[Any, Shard] = {}
        try:
            while True:
                while len(running) < self._capacity() and (shard := next(left, None)):
                    running[self._run.remote(self._settings, shard)] = shard
                if not running:
                    return
                for reference in ray.wait(list(running), timeout=_LOOK_SECONDS)[0]:
                    shard = running.pop(reference)
                    yield shard, task_result(reference, shard.place)
        finally:
            for reference in running:
                ray.cancel(reference)

    def _capacity(self) -> int:
        if self._workers is not None:
            return self._workers
        asked, cpus = self._cpus
        if time.monotonic() - asked >= _LOOK_SECONDS:
            cpus = cluster_cpus()
            self._cpus = time.monotonic(), cpus
        return cpus


def run_shard(settings: bytes, shard: Shard | None) -> Report | None:
    """Translates a shard in a process of Ray's; None only opens the model."""
    worker = _worker(settings)
    return None if shard is None else worker.run(shard)


@functools.lru_cache(maxsize=1)
def _worker(settings: bytes) -> ShardTranslator:
    set_threads(1)
    job, output, checksums = pickle.loads(settings)
    return ShardTranslator(job, output, checksums)
