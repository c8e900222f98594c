"""`ktransformer train --ray`: two workers, one of which is killed."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TextIO

import pytest

from ktransformer.errors import InputError
from ktransformer.fitting.on_ray import keep_fitting, train_on_ray
from ktransformer.saving.run import load_run
from tests.fitting.on_jax import assert_same_runs, finish, start
from tests.fitting.ray_workers import find_workers
from tests.run_command import ROOT, refusal


def wait_for_start(
    folder: Path, driver: subprocess.Popen, ancestor: int, before: set[int]
) -> set[int]:
    """Waits until two new workers have written a state; returns them."""
    state = folder / "ray.checkpoints" / "training.npz"
    workers: set[int] = set()
    while len(workers) < 2 and driver.poll() is None:
        time.sleep(0.2)
        workers = find_workers(ancestor) - before
    written = state.stat().st_mtime_ns if state.exists() else None
    while driver.poll() is None and not (state.exists() and state.stat().st_mtime_ns != written):
        time.sleep(0.02)
    assert driver.poll() is None, driver.communicate()[1]
    return workers


@pytest.mark.long
def test_a_training_on_ray_of_which_a_worker_is_killed_ends_as_if_none_had_been(jax_folder):
    (driver,) = start(jax_folder, "ray", "--ray", "local", "--workers", "2")
    os.kill(max(wait_for_start(jax_folder, driver, driver.pid, set())), signal.SIGKILL)
    (error,) = finish([driver])
    assert "Going on after update" in error
    assert_same_runs(jax_folder / "two", jax_folder / "ray")
    assert not [*jax_folder.glob(".ray.*")]


def open_for_reader(pipe: Path, driver: subprocess.Popen) -> TextIO:
    """Opens a named pipe for writing once a process of the training reads it."""
    while driver.poll() is None:
        with suppress(OSError):  # Nobody reads it yet.
            return open(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "w")
        time.sleep(0.1)
    raise AssertionError(f"The training ended before it read {pipe}: {driver.communicate()[1]}")


@pytest.mark.long
def test_a_training_that_is_lost_at_its_start_does_not_take_an_older_run_for_its_own(jax_folder):
    older = shutil.copytree(jax_folder / "two", jax_folder / "older")
    settings = jax_folder / "settings.yaml"
    os.mkfifo(settings)  # Read by the worker before it makes the folder of checkpoints.
    more = "--ray", "local", "--overwrite", "--config", str(settings)
    (driver,) = start(jax_folder, "older", *more)
    with open_for_reader(settings, driver):
        (lost,) = find_workers(driver.pid)
        os.kill(lost, signal.SIGKILL)
        while driver.poll() is None and not find_workers(driver.pid) - {lost}:
            time.sleep(0.2)
    with open_for_reader(settings, driver) as file:
        file.write("seed: 7\n")
    finish([driver])
    assert load_run(older).config.training.seed == 7


@pytest.mark.long
@pytest.mark.parametrize("ending", ["well", "without memory"])
def test_a_training_that_has_ended_is_not_started_again(ending, tmp_path, monkeypatch):
    def train(restarted):
        if os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] == "0":
            with (tmp_path / "starts").open("a") as file:
                file.write("again " if restarted else "first ")
            if ending == "without memory":
                raise MemoryError("12 bytes")
        else:
            time.sleep(5)  # Until the first worker has ended.
            raise RuntimeError("lost")

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    sentence = "Not enough memory \\(12 bytes\\)"
    with pytest.raises(InputError, match=sentence) if ending != "well" else nullcontext():
        train_on_ray(train, address="local", workers=2, folder=tmp_path, max_failures=2)
    assert (tmp_path / "starts").read_text() == "first "


@pytest.mark.parametrize(("lost", "starts"), [(0, 1), (2, 3), (3, 3)])
def test_a_worker_that_is_lost_while_it_starts_is_started_anew(lost, starts):
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import ControllerError

    seen = []

    def fit(start):
        seen.append(start)
        if start < lost:
            raise ControllerError(RayActorError())

    with pytest.raises(InputError, match="more than 2 times") if lost > 2 else nullcontext():
        keep_fitting(fit, 2)
    assert seen == [*range(starts)]


def test_another_failure_of_ray_train_ends_the_training():
    from ray.train.v2.api.exceptions import ControllerError

    def fit(start):
        assert start == 0
        raise ControllerError(ValueError("of another kind"))

    with pytest.raises(InputError, match="their log says why"):
        keep_fitting(fit, 2)


@pytest.mark.long
def test_a_cluster_encodes_the_text_of_its_workers(jax_folder):
    """Two workers take two CPUs, and the third encodes; the shards are those of one process."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    store = {"object_store_memory": 80 << 20}
    head = {"num_cpus": 3, "include_dashboard": False, **store}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    shards = ("--set", "shard_pairs=50", "--set", "epochs=1")
    try:
        on_ray = ("--ray", cluster.address, "--workers", "2", "--encode-ray", cluster.address)
        (error,) = finish(start(jax_folder, "encoded", *on_ray, *shards))
    finally:
        cluster.shutdown()
    assert "Encoding" in error
    finish(start(jax_folder, "sharded", *shards, processes=2))
    assert_same_runs(jax_folder / "sharded", jax_folder / "encoded")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workers", "2"], "--workers needs --ray ADDRESS"),
        (["--ray", "auto"], "set the environment variable KERAS_BACKEND=jax"),
        (["--shard-weights"], "--shard-weights needs JAX"),
        (["--tensor-parallel", "2"], "--tensor-parallel needs JAX"),
    ],
)
def test_what_ray_does_not_train_is_refused(options, sentence, tmp_path, capsys):
    line = ["train", "--source", "a", "--target", "b", "--output", tmp_path / "run"]
    assert sentence in refusal(capsys, *line, *options)
