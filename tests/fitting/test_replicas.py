"""Training under `tf.distribute.MirroredStrategy`, on two devices that the CPU is divided into."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.fitting import mirrored_strategy
from ktransformer.saving.run import load_run
from tests.fitting.small_transformer import logits
from tests.run_command import command, refusal
from tests.small_run import number_pairs, train_arguments, write_pairs

# One shape; dropout draws other numbers on several devices; a clip that every update feels.
SETTINGS = (
    "dropout=0",
    "clip_norm=0.1",
    "bucket_step=24",
    "batch_tokens=960",
    "epochs=4",
    "bleu_sentences=0",
)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """The command line of a training of four epochs of three updates, by the run's name."""
    folder = tmp_path_factory.mktemp("replicas")
    files = write_pairs(folder, "text", number_pairs(120, seed=5))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    validation = ["--validation-source", str(files[0]), "--validation-target", str(files[1])]

    def make(name: str, *options: object) -> list[str]:
        return train_arguments(*files, folder / name, *settings, *validation, *map(str, options))

    return make


@pytest.fixture(scope="module")
def runs(arguments):
    """The same training on one device and on two, by the command."""
    found = []
    for devices in (1, 2):
        line = arguments(f"on-{devices}", "--devices", devices)
        result = command(*line)
        assert result.returncode == 0, result.stderr.decode()
        found.append(load_run(line[line.index("--output") + 1]))
    return found


@pytest.mark.long
def test_two_devices_have_the_losses_of_one(runs):
    one, two = (run.history for run in runs)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, err_msg=name)
    assert one["loss"][-1] < one["loss"][0] - 0.01  # It did move.


@pytest.mark.long
def test_two_devices_have_the_losses_of_one_where_pairs_have_weights(tmp_path):
    path = tmp_path / "text.tsv"
    pairs = enumerate(number_pairs(120, seed=5))
    path.write_text("".join(f"{a}\t{b}\t{(i % 5 + 1) / 50}\n" for i, (a, b) in pairs))
    losses = []
    for devices in (1, 2):
        output = tmp_path / str(devices)
        line = train_arguments(path, path, output, "--devices", str(devices))
        line = ["train", "--pairs", str(path), *line[line.index("--output") :]]
        line += [word for setting in (*SETTINGS, "epochs=2") for word in ("--set", setting)]
        result = command(*line)
        assert result.returncode == 0, result.stderr.decode()
        losses.append(load_run(output).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.long
def test_two_devices_train_the_model_of_one(runs):
    one, two = (logits(run.model) for run in runs)
    np.testing.assert_allclose(two, one, atol=1e-3)  # Sums in another order, in every update.


_ON_TWO = """
import json, sys
from pathlib import Path
import keras
from ktransformer.fitting import Resume, mirrored_strategy, train
from ktransformer.errors import InputError
from tests.fitting.small_training import TEXT, small

class Count(keras.callbacks.Callback):
    updates = 0

    def on_train_batch_end(self, batch, logs=None):
        self.updates += 1

class Cut(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise InterruptedError

def fit(name, callbacks=(), **settings):
    config = small(bucket_step=16, batch_tokens=112, checkpoint_minutes=0, dropout=0.3, **settings)
    folder = Path(sys.argv[1]) / name
    return train(config, TEXT, checkpoints=folder, start=Resume(), callbacks=callbacks).history

histories = {}
with mirrored_strategy(2).scope():
    histories["whole"] = fit("whole")
    try:
        fit("cut", [Cut()])
    except InterruptedError:
        count = Count()
        histories["cut"] = fit("cut", [count])
        histories["updates"] = count.updates
    for name, settings in ("half", {"dtype": "mixed_float16"}), ("muon", {"optimizer": "muon"}):
        try:
            fit(name, **settings)
        except InputError as error:
            histories[name] = str(error)
try:
    fit("whole")
except InputError as error:
    histories["one"] = str(error)
print(json.dumps(histories))
"""


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    """Folder and results of trainings with dropout; batches of 7 rows, so that one is added."""
    folder = tmp_path_factory.mktemp("on-two")
    line = [sys.executable, "-c", _ON_TWO, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return folder, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.long
def test_a_training_on_two_devices_that_was_cut_has_the_weights_of_one_that_was_not(on_two):
    folder, histories = on_two
    assert histories["updates"] == 3  # Of 4: the second was cut before its state was written.
    with (
        np.load(folder / "whole" / "training.npz") as whole,
        np.load(folder / "cut" / "training.npz") as cut,
    ):
        for name in whole.files[1:]:  # The first holds the metrics, which are sums over devices.
            np.testing.assert_array_equal(cut[name], whole[name])
    for name, values in histories["whole"].items():
        np.testing.assert_allclose(histories["cut"][name], values, rtol=1e-5)


@pytest.mark.long
def test_another_number_of_devices_does_not_go_on(on_two):
    assert "is of a training with devices=2; got devices=1" in on_two[1]["one"]


@pytest.mark.long
def test_float16_is_refused_on_several_devices(on_two):
    assert on_two[1]["half"] == "mixed_float16 trains on one device alone; use mixed_bfloat16."


@pytest.mark.long
def test_muon_is_refused_on_several_devices(on_two):
    message = "muon trains on one TensorFlow device alone; use adam, or JAX."
    assert on_two[1]["muon"] == message


@pytest.mark.long
def test_a_strategy_of_several_workers_is_refused():
    code = (
        "import tensorflow as tf\n"
        "from ktransformer.errors import InputError\n"
        "from ktransformer.fitting import count_devices\n"
        "with tf.distribute.MultiWorkerMirroredStrategy().scope():\n"
        "    try:\n        count_devices()\n"
        "    except InputError as error:\n        print(error)\n"
    )
    line = [sys.executable, "-c", code]
    printed = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("Keras 3 does not train under MultiWorkerMirroredStrategy;")


def test_more_devices_than_there_are_parts_of_the_cpu_are_refused(capsys, arguments):
    most = max(os.cpu_count(), 2)
    sentence = refusal(capsys, *arguments("refused", "--devices", most + 1))
    assert f"There are not {most + 1} devices: " in sentence
    assert f"into {most} at most" in sentence


def test_a_single_device_needs_no_strategy():
    with pytest.raises(InputError, match=r"devices.*2.*1"):
        mirrored_strategy(1)


def test_a_cpu_that_runs_already_is_not_divided(capsys, arguments):
    import tensorflow as tf

    tf.constant(0)  # From here on the CPU is one device.
    sentence = refusal(capsys, *arguments("refused", "--devices", 2))
    assert sentence.endswith("cannot be divided into 2 devices: TensorFlow runs already.")
