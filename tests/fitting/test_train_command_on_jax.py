"""`ktransformer train` on JAX: one process, two that share every batch, and one that is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.saving.run import load_run
from tests.fitting.small_training import assert_same
from tests.fitting.small_transformer import logits
from tests.run_command import ROOT
from tests.small_run import number_pairs, train_arguments, write_pairs

# One shape of an even number of rows; a state of every update.
SETTINGS = (
    "d_model=16",
    "hidden_dim=16",
    "num_heads=2",
    "dropout=0",
    "optimizer=adam",
    "bucket_step=24",
    "batch_tokens=480",
    "epochs=3",
    "bleu_sentences=10",
    "checkpoint_minutes=0",
)
# What JAX compiles is kept: the processes of this file compile the same.
ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the runs, with the text."""
    folder = tmp_path_factory.mktemp("on-jax")
    write_pairs(folder, "text", number_pairs(120, seed=5))
    return folder


def line(folder: Path, name: str, *options: str) -> list[str]:
    """The command line of the training of a run."""
    files = folder / "text.source", folder / "text.target"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    validation = ["--validation-source", str(files[0]), "--validation-target", str(files[1])]
    return train_arguments(*files, folder / name, *settings, *validation, *options)


def start(folder: Path, name: str, *options: str, processes: int = 1) -> list[subprocess.Popen]:
    """Starts a training on JAX."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    started = []
    for index in range(processes):
        environment = {
            **os.environ,
            **ENVIRONMENT,
            "JAX_COMPILATION_CACHE_DIR": str(folder / f"compiled-{processes}-{index}"),
        }
        if processes > 1:
            values = {"JOB_ADDRESSES": address, "NUM_PROCESSES": processes, "PROCESS_ID": index}
            environment |= {f"KERAS_DISTRIBUTION_{key}": str(v) for key, v in values.items()}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "ktransformer", *line(folder, name, *options)],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Waits for processes to end well; returns what they wrote to stderr."""
    try:
        errors = [process.communicate(timeout=900)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), errors
    return errors


def wait_for_state(folder: Path, name: str, process: subprocess.Popen) -> None:
    """Waits until a training has written its state."""
    state = folder / f"{name}.checkpoints" / "training.npz"
    while process.poll() is None and not state.exists():
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]


def assert_same_runs(first: Path, second: Path) -> None:
    one, two = load_run(first), load_run(second)
    assert one.history == two.history
    assert_same(one.model.get_weights(), two.model.get_weights())


@pytest.fixture(scope="module")
def whole(folder):
    """A run that JAX trained on one device, without a cut."""
    finish(start(folder, "whole"))
    return folder / "whole"


@pytest.mark.long
def test_jax_trains_the_model_of_tensorflow(whole, folder):
    assert main(line(folder, "here")) == 0
    here, there = load_run(folder / "here"), load_run(whole)
    assert here.tokenizer.model == there.tokenizer.model
    assert here.history.keys() == there.history.keys()
    for name, values in here.history.items():
        np.testing.assert_allclose(there.history[name], values, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(logits(there.model), logits(here.model), atol=1e-4)


@pytest.mark.long
def test_a_training_on_jax_that_was_killed_ends_as_if_it_had_not_been(whole, folder):
    (process,) = start(folder, "killed")
    wait_for_state(folder, "killed", process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (error,) = finish(start(folder, "killed", "--resume"))
    assert "Going on after update" in error
    assert_same_runs(whole, folder / "killed")


@pytest.mark.long
def test_two_processes_of_which_one_is_killed_end_and_go_on_to_the_bit(whole, folder):
    finish(start(folder, "two", processes=2))
    processes = start(folder, "cut", processes=2)
    wait_for_state(folder, "cut", processes[0])
    processes[1].kill()
    error = processes[0].communicate(timeout=60)[1]
    assert processes[0].returncode == 2
    assert error.splitlines()[-1] == (
        "ktransformer: Process 1 of the training has ended, so process 0 ends, too; --resume goes "
        "on from the state that was written."
    )
    errors = finish(start(folder, "cut", "--resume", processes=2))
    assert all("Going on after update" in error for error in errors)
    assert_same_runs(folder / "two", folder / "cut")
    one, two = load_run(whole), load_run(folder / "two")
    np.testing.assert_allclose(two.history["val_perplexity"], one.history["val_perplexity"], 1e-4)


@pytest.mark.long
def test_all_processes_report_an_error_of_the_first(folder):
    (folder / "text.source").with_name("taken").write_text("a file")
    processes = start(folder, "taken", processes=2)
    for process in processes:
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 2, error
        assert "taken is a file; a folder was to be written there." in error.splitlines()[-1]
