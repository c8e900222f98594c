"""`ktransformer train --ray`: two workers, one of which is killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fitting.on_jax import assert_same_runs, finish, start
from tests.fitting.ray_workers import find_workers
from tests.run_command import refusal


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
