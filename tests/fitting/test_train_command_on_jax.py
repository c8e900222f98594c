"""`ktransformer train` on JAX: one process, two that share every batch, and one that is killed."""

import signal

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.saving.run import load_run
from tests.fitting.on_jax import (
    assert_close_runs,
    assert_same_runs,
    finish,
    line,
    start,
    wait_for_state,
)
from tests.fitting.small_transformer import logits


@pytest.mark.long
def test_jax_trains_a_run_of_tensorflow_as_tensorflow_does(jax_folder):
    # Fresh weights would differ: each backend draws its own.
    assert main(line(jax_folder, "base", "--set", "epochs=20")) == 0
    base = "--from", str(jax_folder / "base")
    processes = start(jax_folder, "there", *base)
    assert main(line(jax_folder, "here", *base)) == 0
    finish(processes)
    here, there = load_run(jax_folder / "here"), load_run(jax_folder / "there")
    assert here.history.keys() == there.history.keys()
    assert here.history["val_chrf"][-1] > 0
    for name, values in here.history.items():
        np.testing.assert_allclose(there.history[name], values, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(logits(there.model), logits(here.model), atol=1e-4)


@pytest.mark.long
def test_a_training_on_jax_that_was_killed_ends_as_if_it_had_not_been(jax_whole, jax_folder):
    (process,) = start(jax_folder, "killed")
    wait_for_state(jax_folder, "killed", process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (error,) = finish(start(jax_folder, "killed", "--resume"))
    assert "Going on after update" in error
    assert_same_runs(jax_whole, jax_folder / "killed")


@pytest.mark.long
def test_two_processes_of_which_one_is_killed_end_and_go_on_to_the_bit(jax_whole, jax_folder):
    processes = start(jax_folder, "cut", processes=2)
    wait_for_state(jax_folder, "cut", processes[0])
    processes[1].kill()
    error = processes[0].communicate(timeout=60)[1]
    assert processes[0].returncode == 2
    assert error.splitlines()[-1] == (
        "ktransformer: Process 1 of the training has ended, so process 0 ends, too; --resume goes "
        "on from the state that was written."
    )
    errors = finish(start(jax_folder, "cut", "--resume", processes=2))
    assert all("Going on after update" in error for error in errors)
    assert_same_runs(jax_folder / "two", jax_folder / "cut")
    assert_close_runs(jax_folder / "two", jax_whole)


@pytest.mark.long
def test_two_devices_train_the_model_of_one(jax_whole, jax_folder):
    finish(start(jax_folder, "devices", "--devices", "2"))
    assert_close_runs(jax_folder / "devices", jax_whole)


@pytest.mark.long
def test_all_processes_report_an_error_of_the_first(jax_folder):
    (jax_folder / "taken").write_text("a file")
    processes = start(jax_folder, "taken", processes=2)
    for process in processes:
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 2, error
        assert "taken is a file; a folder was to be written there." in error.splitlines()[-1]


@pytest.mark.long
def test_a_model_that_memory_does_not_hold_is_refused_on_jax_in_a_sentence(jax_folder):
    sizes = ("max_length=1000000", "batch_tokens=1000000", "d_model=65536")
    settings = (*sizes, "positions=learned")  # A table of 262 GB.
    large = [word for setting in settings for word in ("--set", setting)]
    (process,) = start(jax_folder, "large", *large)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 2, error
    assert error.splitlines()[-1].startswith("ktransformer: Not enough memory (")
    assert "Traceback" not in error
