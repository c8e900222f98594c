"""`ktransformer train --ray`: two workers, one of which is killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fitting.on_jax import assert_same_runs, finish, start, wait_for_state
from tests.run_command import refusal
from tests.small_run import number_pairs, write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the runs, with the text."""
    folder = tmp_path_factory.mktemp("on-ray")
    write_pairs(folder, "text", number_pairs(120, seed=5))
    return folder


def find_workers(driver: subprocess.Popen) -> list[int]:
    """Returns the ids of the processes of Ray Train's workers that a driver's Ray has started."""
    parents, workers = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
            if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                workers.append(int(folder.name))
        except OSError:  # It has just ended.
            continue
    found = []
    for worker in workers:
        parent = worker
        while parent in parents and parent != driver.pid:
            parent = parents[parent]
        if parent == driver.pid:
            found.append(worker)
    return sorted(found)


@pytest.mark.long
def test_a_training_on_ray_of_which_a_worker_is_killed_ends_as_if_none_had_been(folder):
    finish(start(folder, "whole", processes=2))
    (driver,) = start(folder, "ray", "--ray", "local", "--workers", "2")
    wait_for_state(folder, "ray", driver)
    workers = find_workers(driver)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    while set(find_workers(driver)) <= {workers[0]} and driver.poll() is None:
        time.sleep(0.1)
    (error,) = finish([driver])
    assert "Going on after update" in error
    assert_same_runs(folder / "whole", folder / "ray")
    assert not (folder / "ray.ray").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workers", "2"], "--workers needs --ray ADDRESS"),
        (["--ray", "auto"], "set the environment variable KERAS_BACKEND=jax"),
    ],
)
def test_what_ray_does_not_train_is_refused(options, sentence, tmp_path, capsys):
    line = ["train", "--source", "a", "--target", "b", "--output", tmp_path / "run"]
    assert sentence in refusal(capsys, *line, *options)
