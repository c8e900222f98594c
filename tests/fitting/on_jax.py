"""The trainings by the command on JAX, in processes of their own."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ktransformer.saving.run import load_run
from tests.fitting.small_training import assert_same
from tests.fitting.small_transformer import logits
from tests.run_command import ROOT
from tests.small_run import train_arguments

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


def line(folder: Path, name: str, *options: str) -> list[str]:
    """The command line of the training of a run."""
    files = folder / "text.source", folder / "text.target"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    validation = ["--validation-source", str(files[0]), "--validation-target", str(files[1])]
    return train_arguments(*files, folder / name, *settings, *validation, *options)


def start(
    folder: Path, name: str, *options: str, processes: int = 1, devices: int = 1
) -> list[subprocess.Popen]:
    """Starts a training on JAX, with so many devices in each process."""
    words = ["-m", "ktransformer", *line(folder, name, *options)]
    return start_python(folder, *words, processes=processes, devices=devices)


def start_python(folder: Path, *words: str, processes: int, devices: int) -> list[subprocess.Popen]:
    """Starts processes of Python that train together on JAX; `folder` keeps what it compiles."""
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
        if devices > 1:
            environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        if processes > 1:
            values = {"JOB_ADDRESSES": address, "NUM_PROCESSES": processes, "PROCESS_ID": index}
            environment |= {f"KERAS_DISTRIBUTION_{key}": str(v) for key, v in values.items()}
        started.append(
            subprocess.Popen(
                [sys.executable, *words],
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


def assert_close_runs(path: Path, whole: Path) -> None:
    """Compares a run with the one of one device."""
    run, one = load_run(path), load_run(whole)
    for metric, values in one.history.items():
        if "loss" not in metric:  # Keras' mean loss over batches counts rows of padding.
            np.testing.assert_allclose(run.history[metric], values, rtol=1e-5, err_msg=metric)
    np.testing.assert_allclose(logits(run.model), logits(one.model), atol=1e-4)
