"""Runs the shards of a corpus on a Ray cluster.

Each shard is a task of Ray on one CPU. A process that Ray starts for such tasks opens the model
once and keeps it for the following ones. Ray runs a task again whose process or node has died, on
any node that has a CPU left.
"""

import contextlib
import functools
import logging
import os
import pickle
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ktransformer.corpora.job import Job
from ktransformer.corpora.report import Report
from ktransformer.corpora.shards import Shard
from ktransformer.corpora.worker import ShardTranslator
from ktransformer.errors import InputError, first_line
from ktransformer.runtime.ray_cluster import join_cluster
from ktransformer.runtime.threads import available_cores, set_threads

MAX_RETRIES = 10
"""Times that a shard is run again after its process or node died."""
_STORE_BYTES = 80 << 20  # Near Ray's least: shards and reports are small.
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
        self._get(self._run.remote(self._settings, None), "the model")

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
                    yield shard, self._get(reference, shard.place)
        finally:
            for reference in running:
                ray.cancel(reference)

    def _capacity(self) -> int:
        import ray

        if self._workers is not None:
            return self._workers
        asked, cpus = self._cpus
        if time.monotonic() - asked >= _LOOK_SECONDS:
            cpus = max(int(ray.cluster_resources().get("CPU", 1)), 1)
            self._cpus = time.monotonic(), cpus
        return cpus

    def _get(self, reference: Any, what: str) -> Any:
        """Returns a task's result, or raises the error of our own code in it as it was."""
        import ray

        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, (InputError, OSError, ImportError)):
                raise error.cause from None
            raise
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            raise InputError(
                f"{what}: the processes that translate it have died {MAX_RETRIES + 1} times: "
                f"{first_line(error)}"
            ) from error


def run_shard(settings: bytes, shard: Shard | None) -> Report | None:
    """Translates a shard in a process of Ray's; None only opens the model."""
    worker = _worker(settings)
    return None if shard is None else worker.run(shard)


@functools.lru_cache(maxsize=1)
def _worker(settings: bytes) -> ShardTranslator:
    set_threads(1)
    job, output, checksums = pickle.loads(settings)
    return ShardTranslator(job, output, checksums)


@contextlib.contextmanager
def joined_cluster(address: str, workers: int | None = None) -> Iterator[None]:
    """Joins a Ray cluster for the block.

    Args:
        address: `local` for one on this machine, which ends with the block; `auto` for the one
            that runs on this machine; or `HOST:PORT` of one that this machine is a node of.
        workers: The CPUs of a local cluster; None for those that this process may use.

    Raises:
        ImportError: Ray is not installed.
        InputError: There is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Nothing is sent unasked.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            'Ray is not installed: pip install "ktransformer[ray]", on every node.'
        ) from error
    if ray.is_initialized():  # By the program that calls us, which also ends it.
        yield
        return
    options: dict[str, Any] = {}
    if address == "local":
        options |= {"num_cpus": workers or available_cores(), "include_dashboard": False}
        options["object_store_memory"] = _STORE_BYTES
    join_cluster(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        yield
    finally:
        ray.shutdown()
