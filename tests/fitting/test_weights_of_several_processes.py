"""Trainings on JAX in two processes that each keep a part of the weights."""

import json
import signal

import numpy as np
import pytest

from tests.fitting.on_jax import (
    assert_close_runs,
    assert_same_runs,
    finish,
    start,
    start_python,
    wait_for_state,
)

_DIVISIONS = {
    "sharded": {"shard_weights": True},
    "pairs": {"tensor_parallel": 2},
    "all": {"tensor_parallel": 4},
}
_ONE = """
import json, sys
from pathlib import Path
from tests.fitting.small_fit import Losses, fit_ids

one = Losses()
fit_ids(Path(sys.argv[1]) / "one", [one], **json.loads(sys.argv[2]))
(Path(sys.argv[1]) / "one.json").write_text(json.dumps(one.losses))
"""
_DIVIDED = """
import json, sys
from pathlib import Path
import keras
from ktransformer.fitting.processes import data_parallel, join_processes, process_index
from tests.fitting.small_fit import Losses, fit_ids

folder, settings, divisions = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])

class Bytes(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        values = [v.value for v in [*self.model.variables, *self.model.optimizer.variables]]
        shards = [value.addressable_shards for value in values]
        self.kept = [sum(each[i].data.nbytes for each in shards) for i in range(2)]
        self.whole = sum(value.nbytes for value in values)

results = {}
with join_processes():
    # The clock of the other process never tells it to write a state within an epoch.
    settings["checkpoint_minutes"] = 10_000 * process_index()
    for name, division in divisions.items():
        losses, kept = Losses(), Bytes()
        with data_parallel(None, **division):
            fit_ids(folder / name, [losses, kept], **settings)
        results[name] = {"losses": losses.losses, "whole": kept.whole, "kept": kept.kept}
    (folder / f"divided-{process_index()}.json").write_text(json.dumps(results))
"""


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """The losses of one device, and the results of two processes with two devices each."""
    folder = tmp_path_factory.mktemp("divided")
    # One shape, of rows that four divide.
    settings = {"dropout": 0.2, "bucket_step": 16, "batch_tokens": 128}
    words = str(folder), json.dumps(settings)
    finish(start_python(folder, "-c", _ONE, *words, processes=1, devices=1))
    command = "-c", _DIVIDED, *words, json.dumps(_DIVISIONS)
    finish(start_python(folder, *command, processes=2, devices=2))
    paths = [folder / f"{name}.json" for name in ("one", "divided-0", "divided-1")]
    one, *results = (json.loads(path.read_text()) for path in paths)
    return one, results


@pytest.mark.long
@pytest.mark.parametrize("name", _DIVISIONS)
def test_processes_that_divide_the_weights_have_the_losses_of_one_device(divided, name):
    one, results = divided
    for result in results:
        np.testing.assert_allclose(result[name]["losses"], one, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("name", "share"), [("sharded", 0.35), ("pairs", 0.6), ("all", 0.35)])
def test_each_device_of_each_process_keeps_its_part_of_the_weights(divided, name, share):
    for result in divided[1]:
        assert len(result[name]["kept"]) == 2
        assert max(result[name]["kept"]) < share * result[name]["whole"], result[name]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options"), [("sharded", ["--shard-weights"]), ("parts", ["--tensor-parallel", "2"])]
)
def test_processes_with_parts_of_the_weights_that_are_killed_go_on_to_the_bit(
    jax_whole, jax_folder, name, options
):
    finish(start(jax_folder, f"{name}-whole", *options, processes=2))
    processes = start(jax_folder, f"{name}-cut", *options, processes=2)
    wait_for_state(jax_folder, f"{name}-cut", processes[0])
    processes[0].kill()  # The one that writes.
    assert processes[0].wait() == -signal.SIGKILL
    error = processes[1].communicate(timeout=60)[1]
    assert error.splitlines()[-1].startswith("ktransformer: Process 0 of the training has ended")
    errors = finish(start(jax_folder, f"{name}-cut", *options, "--resume", processes=2))
    assert all("Going on after update" in error for error in errors)
    assert_same_runs(jax_folder / f"{name}-whole", jax_folder / f"{name}-cut")
    assert_close_runs(jax_folder / f"{name}-whole", jax_whole)


@pytest.mark.long
def test_groups_of_devices_that_cut_a_process_in_two_are_refused_by_all(jax_folder):
    options = "--tensor-parallel", "2"
    for process in start(jax_folder, "refused", *options, processes=2, devices=3):
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 2, error
        assert error.splitlines()[-1] == (
            "ktransformer: --tensor-parallel must divide the 6 devices of all processes, and "
            "divide the 3 of each or be a multiple of them; got 2."
        )
