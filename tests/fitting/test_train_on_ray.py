"""`ktransformer train --ray`: two workers, one of which is killed."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.fitting.on_jax import assert_same_runs, finish, start
from tests.run_command import refusal
from tests.small_run import number_pairs, write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the runs, with the text."""
    folder = tmp_path_factory.mktemp("on-ray")
    write_pairs(folder, "text", number_pairs(120, seed=5))
    return folder


def find_workers(ancestor: int) -> set[int]:
    """Returns the processes of Ray Train's workers among the descendants of a process."""
    parents, workers = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                workers.add(int(folder.name))
        except OSError:  # It has just ended.
            continue
    return {worker for worker in workers if ancestor in _ancestors(worker, parents)}


def _ancestors(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process


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
def test_a_training_on_ray_of_which_a_worker_is_killed_ends_as_if_none_had_been(folder):
    finish(start(folder, "whole", processes=2))
    (driver,) = start(folder, "ray", "--ray", "local", "--workers", "2")
    os.kill(max(wait_for_start(folder, driver, driver.pid, set())), signal.SIGKILL)
    (error,) = finish([driver])
    assert "Going on after update" in error
    assert_same_runs(folder / "whole", folder / "ray")
    assert not [*folder.glob(".ray.*")]


@pytest.mark.long
def test_workers_and_nodes_killed_at_ten_random_moments_change_nothing(folder):
    options = "--set", "epochs=60", "--set", "bleu_sentences=0", "--overwrite"
    finish(start(folder, "whole", *options, processes=2))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        address = cluster.address
        (driver,) = start(folder, "ray", *options, "--ray", address, "--workers", "2")
        moments, workers = random.Random(0), set()
        for number in range(10):
            workers = wait_for_start(folder, driver, os.getpid(), workers)
            time.sleep(moments.uniform(0, 0.7))
            if number % 3 == 2:
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=1))
            else:
                os.kill(moments.choice(sorted(workers)), signal.SIGKILL)
        (error,) = finish([driver])
    finally:
        cluster.shutdown()
    assert error.count("Going on after update") >= 10
    assert_same_runs(folder / "whole", folder / "ray")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workers", "2"], "--workers needs --ray ADDRESS"),
        (["--ray", "auto"], "set the environment variable KERAS_BACKEND=jax"),
        (["--shard-weights"], "--shard-weights needs JAX"),
    ],
)
def test_what_ray_does_not_train_is_refused(options, sentence, tmp_path, capsys):
    line = ["train", "--source", "a", "--target", "b", "--output", tmp_path / "run"]
    assert sentence in refusal(capsys, *line, *options)
