"""Joins a Ray cluster, or says why not, and runs functions in its processes."""

import collections
import contextlib
import functools
import importlib.util
import logging
import os
import pickle
import random
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ktransformer.errors import InputError, first_line
from ktransformer.runtime.threads import available_cores, set_threads

MAX_RETRIES = 10
"""Times that a task is run again after its process or node died."""
_ANSWER_SECONDS = 10
_STORE_BYTES = 80 << 20  # Near Ray's least; beyond it Ray uses the disk.
_AHEAD = 2  # Items on the cluster for each worker, so that none waits for the next one.
T = TypeVar("T")
R = TypeVar("R")


def join_cluster(address: str, **options: Any) -> None:
    """Joins the Ray cluster at an address, or starts one.

    Args:
        address: `HOST:PORT` of one, `auto` for the one that runs on this machine, or `local` to
            start one.
        options: Further ones of `ray.init`.

    Raises:
        ImportError: Ray is not installed.
        InputError: There is no such cluster, or it cannot be used.
    """
    import ray

    _check_that_something_listens(address)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises plain ones where a node does not start in time.
        what = "start Ray" if address == "local" else f"join Ray at {address}"
        raise InputError(f"Cannot {what}: {first_line(error)}") from error


def _check_that_something_listens(address: str) -> None:
    """Refuses a `HOST:PORT` where nothing listens, which Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():  # Ray says what it thinks of the others.
        return
    try:
        answer = socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS)
        answer.close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"Cannot join Ray at {address}: {first_line(error)}") from error


def check_cluster(address: str) -> None:
    """Tells early what `joined_cluster` would tell at once.

    Raises:
        ImportError: Ray is not installed.
        InputError: Nothing listens at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise ImportError('Ray is not installed: pip install "ktransformer[ray]", on every node.')
    _check_that_something_listens(address)


@contextlib.contextmanager
def joined_cluster(address: str, workers: int | None = None) -> Iterator[None]:
    """Joins a Ray cluster for the block, for tasks of one CPU each.

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
    check_cluster(address)
    import ray

    if ray.is_initialized():  # By the program that calls us, which also ends it.
        yield
        return
    options: dict[str, Any] = {}
    if address == "local":
        options |= {"num_cpus": workers or available_cores(), "include_dashboard": False}
        options["object_store_memory"] = _STORE_BYTES
    chance = random.getstate()  # Ray draws from it; a training's weights are drawn from it later.
    join_cluster(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        yield
    finally:
        ray.shutdown()
        random.setstate(chance)


def map_on_cluster(
    function: Callable[[T], R], items: Iterable[T], *, workers: int | None = None
) -> Iterator[R]:
    """Yields a function of each item in the items' order, as `map` does, from the cluster's tasks.

    Each task has one CPU, with one thread for TensorFlow; a process of tasks keeps the function.
    Two items for each worker are taken ahead, so that memory does not grow with their number.

    Args:
        function: Called in processes of the cluster that this one has joined; can be pickled.
        items: Can be pickled, too.
        workers: Items at the same time; None for as many as the cluster has CPUs, at any time.

    Raises:
        InputError: The function raised it, or an item's processes have died too often.
    """
    import ray

    shared = ray.put(pickle.dumps(function))
    remote: Any = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)
    task = remote(_apply)
    running: collections.deque[Any] = collections.deque()
    try:
        for number, item in enumerate(items):
            running.append((number, task.remote(shared, item)))
            if len(running) >= _AHEAD * (workers or cluster_cpus()):
                yield _result_of(*running.popleft())
        while running:
            yield _result_of(*running.popleft())
    finally:
        for _, reference in running:
            ray.cancel(reference)


def _result_of(number: int, reference: Any) -> Any:
    return task_result(reference, f"item {number}")


def _apply(function: bytes, item: Any) -> Any:
    return _unpickled(function)(item)


@functools.lru_cache(maxsize=1)
def _unpickled(function: bytes) -> Any:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # A training on the same node may have them.
    with contextlib.suppress(RuntimeError):  # An earlier function has run on TensorFlow.
        set_threads(1)
    return pickle.loads(function)


def cluster_cpus() -> int:
    """Returns how many CPUs the cluster has now, at least 1."""
    import ray

    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def task_result(reference: Any, what: str) -> Any:
    """Returns a task's result, or raises the error of our own code in it as it was.

    Args:
        reference: The task's, with `MAX_RETRIES`.
        what: What it works on, for the error.

    Raises:
        InputError: The task raised it, or its processes have died too often.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (InputError, OSError, ImportError)):
            raise error.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        raise InputError(
            f"{what}: the processes that work on it have died {MAX_RETRIES + 1} times: "
            f"{first_line(error)}"
        ) from error
