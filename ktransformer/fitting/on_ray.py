"""A training on the workers of a Ray cluster, which are restarted from the last state."""

import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ktransformer.errors import InputError, memory_sentence
from ktransformer.files import make_folder, remove_empty
from ktransformer.runtime.process_environment import process_environment
from ktransformer.runtime.ray_cluster import join_cluster

_log = logging.getLogger(__name__)
_BEFORE_KERAS = {"KERAS_BACKEND": "jax"}
_PASSED_ON = ("JAX_", "XLA_", "NCCL_", "PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")  # Begins of names.


class _Story:
    """What the driver learns of the workers, and they of those before them; a Ray actor."""

    def __init__(self) -> None:
        self._starts = 0
        self._refusal: str | None = None
        self._finished = False

    def begin(self) -> int:
        """Counts a start of the training; returns how many there were before."""
        self._starts += 1
        return self._starts - 1

    def finish(self) -> None:
        """Records that the training has ended well."""
        self._finished = True

    def refuse(self, sentence: str) -> None:
        """Records an error with which no restart would help, as a sentence."""
        self._refusal = sentence

    def refusal(self) -> str | None:
        """Returns that error."""
        return self._refusal

    def is_over(self) -> bool:
        """Returns whether no start is needed any more."""
        return self._finished or self._refusal is not None


def train_on_ray(
    train: Callable[[bool], None],
    *,
    address: str,
    workers: int,
    folder: str | Path,
    spare_cpus: int = 0,
    max_failures: int = 100,
) -> None:
    """Runs a training on JAX in worker processes of a Ray cluster.

    All workers see the files of the training under the same paths: one machine, or a shared folder.
    If a worker or a node is lost, all workers are started anew, and they go on from the last state.
    Where the cluster has GPUs each worker gets one, else a CPU.

    Args:
        train: Called in every worker with whether an earlier start may have left a state; it trains
            with the processes that the environment names. It is not called again after it has
            returned in the first worker. Can be pickled.
        address: The cluster's address, `auto` for the one that runs on this machine, or `local` to
            start one for this training alone.
        workers: The number of workers, at least 1.
        folder: A folder that all workers see; Ray's own files are in a new one within it, which is
            removed at the end.
        spare_cpus: CPUs of the cluster that the workers must leave to tasks of `train`.
        max_failures: How often workers may be lost while they run, and while they start.

    Raises:
        InputError: Ray is not installed, there is no such cluster, it has too few CPUs or GPUs,
            `train` raises an `InputError` or a `MemoryError`, or workers are lost too often.
    """
    try:
        import ray
        from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
        from ray.train.v2.jax import JaxTrainer
        from ray.train.v2.jax.config import JaxConfig
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise InputError("--ray needs Ray: pip install 'ktransformer[ray]'.") from error
    started = not ray.is_initialized()
    if started:
        join_cluster(address)
    made = make_folder(Path(folder))
    scratch = tempfile.mkdtemp(prefix=".ray.", dir=folder)
    try:
        gpus = ray.cluster_resources().get("GPU", 0) >= workers
        _check_resources(ray.cluster_resources(), workers, 0 if gpus else workers, spare_cpus)
        # On the driver's node: another one may be lost.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        kind: Any = ray.remote(_Story)
        story = kind.options(num_cpus=0, scheduling_strategy=here).remote()
        environment = {
            name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)
        }

        def fit(attempt: int) -> None:
            JaxTrainer(
                _work,
                train_loop_config={"train": train, "story": story, "folder": os.getcwd()},
                # The training joins its processes itself.
                jax_config=JaxConfig(use_tpu=False, use_gpu=False),
                scaling_config=ScalingConfig(
                    num_workers=workers,
                    use_gpu=gpus,
                    resources_per_worker={"GPU": 1} if gpus else {"CPU": 1},
                ),
                run_config=RunConfig(
                    name=f"training-{attempt}",
                    storage_path=scratch,
                    failure_config=FailureConfig(max_failures=max_failures),
                    worker_runtime_env={"env_vars": {**environment, **_BEFORE_KERAS}},
                ),
            ).fit()

        keep_fitting(fit, max_failures)
        refusal = ray.get(story.refusal.remote())
        if refusal is not None:
            raise InputError(refusal)
    finally:
        if started:
            ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
        remove_empty(made)


def keep_fitting(fit: Callable[[int], object], max_failures: int) -> None:
    """Calls `fit` with 0, and with 1, 2, ... where a worker was lost while Ray Train started it.

    After any other loss Ray Train goes on by itself.

    Raises:
        InputError: The training fails otherwise, or workers were lost more than `max_failures`
            times while they started.
    """
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

    for attempt in range(max_failures + 1):
        try:
            fit(attempt)
            return
        except TrainingFailedError as error:
            failure = error.controller_failure if isinstance(error, ControllerError) else None
            if not isinstance(failure, RayActorError) or attempt == max_failures:
                raise InputError(
                    f"Workers of the training were lost more than {max_failures} times, or "
                    "failed; their log says why. --resume goes on from the last state."
                ) from error
            _log.warning("A worker was lost while it was started; all are started anew.")


def _check_resources(
    resources: dict[str, float], workers: int, taken_cpus: int, spare_cpus: int
) -> None:
    available = max(resources.get("CPU", 0), resources.get("GPU", 0))
    if available < workers:
        raise InputError(
            f"--workers must be at most the CPUs or GPUs of the cluster, {available:.0f} here; got "
            f"{workers}."
        )
    cpus = resources.get("CPU", 0)
    if cpus < taken_cpus + spare_cpus:
        raise InputError(
            "--workers must leave a CPU of the cluster to --encode-ray; got "
            f"{workers} of {cpus:.0f}."
        )


def _work(settings: dict[str, Any]) -> None:
    """Trains in one worker."""
    import ray
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    story, context = settings["story"], get_context()
    rank, count = context.get_world_rank(), context.get_world_size()
    told = None
    if rank == 0:
        address = _free_address(ray.util.get_node_ip_address())
        told = address, ray.get(story.begin.remote()), ray.get(story.is_over.remote())
    address, earlier, is_over = broadcast_from_rank_zero(told)
    if is_over:  # For the first or a refused worker; others were lost.
        return
    os.chdir(settings["folder"])
    os.environ.update(process_environment(rank, count, address))
    # For `auto` in a process of this one.
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    try:
        settings["train"](earlier > 0)
        if rank == 0:
            ray.get(story.finish.remote())
    except InputError as error:
        ray.get(story.refuse.remote(str(error)))
    except MemoryError as error:
        ray.get(story.refuse.remote(memory_sentence(error)))


def _free_address(host: str) -> str:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("", 0))
        return f"{host}:{free.getsockname()[1]}"
