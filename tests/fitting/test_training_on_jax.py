"""Training from ids on JAX, without TensorFlow: one device as TensorFlow, and two that are cut."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.fitting.small_fit import Losses, fit_ids
from tests.fitting.small_training import assert_same, state_of

_ON_JAX = """
import json, sys
sys.modules["tensorflow"] = sys.modules["tensorflow_text"] = None
from pathlib import Path
import keras
from ktransformer.fitting import count_devices
from ktransformer.fitting.sharding import ShardedDataParallel, TensorParallel
from tests.fitting.small_fit import Losses, fit_ids
from tests.fitting.small_training import assert_same, state_of

folder, plain, rest = Path(sys.argv[1]), Losses(), Losses()
results = {"plain": fit_ids(folder / "plain", [plain], dropout=0), "losses": plain.losses}
pairs = {"rdrop_alpha": 2.0, "accumulate_batches": 2, "bucket_step": 16, "batch_tokens": 128}
one, two = Losses(), Losses()
fit_ids(folder / "one", [one], dropout=0.2, **pairs)
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]))
fit_ids(folder / "two", [two], dropout=0.2, **pairs)
results["r-drop"] = one.losses, two.losses

class Bytes(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        shards = [variable.value.addressable_shards for variable in variables]
        self.bytes = [sum(each[i].data.nbytes for each in shards) for i in range(count_devices())]
        self.whole = sum(variable.value.nbytes for variable in variables)

sharded, kept = Losses(), Bytes()
with ShardedDataParallel(["cpu:0", "cpu:1"]).scope():
    fit_ids(folder / "sharded", [sharded, kept], dropout=0.2, **pairs)
results["sharded"], results["bytes"] = sharded.losses, [kept.whole, *kept.bytes]
grid, kept = Losses(), Bytes()
with TensorParallel([f"cpu:{i}" for i in range(4)], parts=2).scope():
    fit_ids(folder / "grid", [grid, kept], dropout=0.2, **pairs)
results["grid"], results["grid bytes"] = grid.losses, [kept.whole, *kept.bytes]
assert count_devices() == 2
whole = Losses()
settings = {"dropout": 0.3, "optimizer": "muon", "bucket_step": 16}  # One shape, to compile less.
results["whole"] = fit_ids(folder / "whole", [whole], **settings)
try:
    fit_ids(folder / "cut", [Losses(cut=3)], **settings)
except InterruptedError:
    results["cut"] = fit_ids(folder / "cut", [rest], **settings)
results["updates"] = len(whole.losses), len(rest.losses)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """Folder and results of trainings on JAX, in a process of their own."""
    folder = tmp_path_factory.mktemp("jax")
    result = subprocess.run(
        [sys.executable, "-c", _ON_JAX, str(folder)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.long
def test_jax_has_the_losses_of_tensorflow(on_jax, tmp_path):
    here = Losses()
    history = fit_ids(tmp_path, [here], dropout=0)
    np.testing.assert_allclose(on_jax[1]["losses"], here.losses, rtol=1e-5)
    for name, values in history.items():
        np.testing.assert_allclose(on_jax[1]["plain"][name], values, rtol=1e-5, err_msg=name)


@pytest.mark.long
def test_devices_that_share_the_weights_have_the_losses_of_one_and_half_of_the_bytes(on_jax):
    np.testing.assert_allclose(on_jax[1]["sharded"], on_jax[1]["r-drop"][0], rtol=1e-5)
    whole, *devices = on_jax[1]["bytes"]
    assert max(devices) < 0.6 * whole, on_jax[1]["bytes"]


@pytest.mark.long
def test_a_grid_of_devices_has_the_losses_of_one_and_half_of_the_bytes_on_each(on_jax):
    np.testing.assert_allclose(on_jax[1]["grid"], on_jax[1]["r-drop"][0], rtol=1e-5)
    whole, *devices = on_jax[1]["grid bytes"]
    assert len(devices) == 4
    assert max(devices) < 0.6 * whole, on_jax[1]["grid bytes"]


@pytest.mark.long
def test_two_jax_devices_have_the_r_drop_losses_of_one(on_jax):
    one, two = on_jax[1]["r-drop"]
    np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.long
def test_a_training_on_two_jax_devices_that_was_cut_ends_as_if_it_had_not_been(on_jax):
    folder, results = on_jax
    assert results["cut"] == results["whole"]
    whole, rest = results["updates"]
    assert rest == whole - 2  # The third update was cut before its state was written.
    assert_same(state_of(folder / "cut"), state_of(folder / "whole"))
