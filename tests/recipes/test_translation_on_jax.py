"""`training/translation/on_jax.py`: trained without TensorFlow, used with it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import keras
import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.errors import InputError
from ktransformer.fitting import compile_model, lock_checkpoints
from ktransformer.saving.run import load_run
from ktransformer.text import TokenBatches, read_parallel
from tests.fitting.small_transformer import logits
from tests.run_command import ROOT
from tests.small_run import TRAINING_SETTINGS, number_pairs, write_pairs
from training.translation import on_jax

# One shape, of 39 rows, so that two devices add one; no mean over epochs, no dropout.
SETTINGS = (
    *TRAINING_SETTINGS,
    "dropout=0",
    "bucket_step=24",
    "batch_tokens=936",
    "epochs=2",
    "average_checkpoints=1",
)
_WITHOUT_TENSORFLOW = (
    "import runpy, sys; "
    "sys.modules['tensorflow'] = sys.modules['tensorflow_text'] = None; "
    "runpy.run_module('training.translation.on_jax', run_name='__main__', alter_sys=True)"
)


def run_here(*arguments: str) -> int:
    """Runs the recipe in this process, on TensorFlow; returns its status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["on_jax", *arguments])
        return on_jax.main()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Files of source and target."""
    return write_pairs(tmp_path_factory.mktemp("on-jax"), "text", number_pairs(120, seed=5))


@pytest.fixture(scope="module")
def ids(text):
    """What `prepare` writes of them."""
    source, target = map(str, text)
    path = text[0].with_name("ids.npz")
    files = ["--source", source, "--target", target]
    files += ["--validation-source", source, "--validation-target", target]
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    line = ["prepare", *files, *settings, "--output", str(path)]
    assert run_here(*line) == 0
    return path


def start(ids: Path, name: str, **environment: str) -> subprocess.Popen:
    """Starts a training on JAX in a process of its own, without TensorFlow."""
    line = [sys.executable, "-c", _WITHOUT_TENSORFLOW, "train", str(ids)]
    line += ["--output", str(ids.with_name(name))]
    return subprocess.Popen(
        line,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(ids):
    """Runs that were trained on one device, on two, and by two processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    two = "--xla_force_host_platform_device_count=2"
    together = {"JOB_ADDRESSES": address, "NUM_PROCESSES": "2"}
    together = {f"KERAS_DISTRIBUTION_{name}": value for name, value in together.items()}
    found = {}
    for name, environments in {
        "one": [{}],
        "devices": [{"XLA_FLAGS": two}],
        "processes": [{**together, "KERAS_DISTRIBUTION_PROCESS_ID": str(i)} for i in range(2)],
    }.items():
        processes = [start(ids, name, **environment) for environment in environments]
        try:
            errors = [process.communicate(timeout=300)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * len(processes), errors
        found[name] = load_run(ids.with_name(name))
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", ["devices", "processes"])
def test_what_shares_the_batches_trains_the_model_of_one_device(runs, name):
    for metric, values in runs["one"].history.items():
        if "loss" not in metric:  # Keras' mean loss over batches counts rows of padding.
            np.testing.assert_allclose(runs[name].history[metric], values, rtol=1e-5)
    one, other = (logits(run.model) for run in (runs["one"], runs[name]))
    np.testing.assert_allclose(other, one, atol=1e-4)


@pytest.mark.long
def test_tensorflow_finds_the_perplexity_that_jax_found(runs, text):
    run = runs["processes"]
    pairs = read_parallel(*text)
    batches = TokenBatches(
        run.tokenizer.encode_lines(pairs.sources),
        run.tokenizer.encode_lines(pairs.targets),
        batch_tokens=run.config.data.batch_tokens,
        max_length=run.config.model.max_length,
    )
    assert keras.backend.backend() == "tensorflow"
    compile_model(run.model, run.config.training)
    found = run.model.evaluate(
        batches.dataset(), steps=batches.steps_per_epoch, return_dict=True, verbose=0
    )
    history = run.history["val_perplexity"]
    np.testing.assert_allclose(found["perplexity"], history[-1], rtol=1e-4)
    assert history[-1] < history[0]


@pytest.mark.long
def test_a_run_of_jax_is_exported_and_says_the_same(runs, ids, text, tmp_path):
    run = ids.with_name("devices")
    assert main(["export", str(run), "--output", str(tmp_path / "export")]) == 0
    export = str(tmp_path / "export" / "1")
    assert main(["verify", export, "--run", str(run), "--source", str(text[0])]) == 0


def test_tensorflow_is_not_asked_to_be_jax(ids, tmp_path, capsys):
    assert run_here("train", str(ids), "--output", str(tmp_path / "run")) == 2
    assert "Set the environment variable KERAS_BACKEND=jax" in capsys.readouterr().err


def test_a_training_that_was_cut_is_not_begun_anew_unasked(ids, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    (tmp_path / "run.checkpoints").mkdir()
    (tmp_path / "run.checkpoints" / "training.npz").touch()
    assert run_here("train", str(ids), "--output", str(tmp_path / "run")) == 2
    assert "is there, of a training that was cut" in capsys.readouterr().err


def test_what_the_first_process_keeps_is_of_no_training_that_was_cut(
    ids, tmp_path, monkeypatch, capsys
):
    def begin():
        (tmp_path / "run.checkpoints").mkdir()
        (tmp_path / "run.checkpoints" / "training.npz").touch()

    def fit(*_, **__):
        raise InputError("It trains.")

    # The second of two processes, on one machine, when the first one has been quicker.
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    monkeypatch.setattr(keras.distribution, "initialize", begin)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(on_jax, "fit_model", fit)
    assert run_here("train", str(ids), "--output", str(tmp_path / "run")) == 2
    assert "It trains." in capsys.readouterr().err


def test_a_folder_is_of_one_training_at_a_time(ids, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    checkpoints = tmp_path / "run.checkpoints"
    with lock_checkpoints(checkpoints):
        assert run_here("train", str(ids), "--output", str(tmp_path / "run"), "--resume") == 2
    assert f"Another training is running in {checkpoints}." in capsys.readouterr().err


def test_what_was_kept_goes_where_it_is_overwritten(ids, tmp_path, monkeypatch):
    def fit(*_, state, **__):
        assert not state.path.exists()
        raise InputError("It trains.")

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(on_jax, "fit_model", fit)
    kept = tmp_path / "run.checkpoints" / "training.npz"
    kept.parent.mkdir()
    kept.touch()
    assert run_here("train", str(ids), "--output", str(tmp_path / "run"), "--overwrite") == 2
    assert not kept.exists()


def test_half_a_validation_text_is_refused(text, tmp_path, capsys):
    sides = ["--source", str(text[0]), "--target", str(text[1])]
    line = ["prepare", *sides, "--validation-source", str(text[0]), "--output", str(tmp_path / "i")]
    assert run_here(*line) == 2
    assert "go together; got one." in capsys.readouterr().err


def test_a_vocabulary_of_each_side_is_refused(text, tmp_path, capsys):
    files = ["--source", str(text[0]), "--target", str(text[1])]
    arguments = [*files, "--set", "shared_vocabulary=false", "--output", str(tmp_path / "i")]
    assert run_here("prepare", *arguments) == 2
    assert "shared_vocabulary" in capsys.readouterr().err


def test_r_drop_gets_every_row_twice(ids):
    config, arrays = on_jax.read_ids(str(ids))
    config = config.replace({"rdrop_alpha": 1.0})
    batches = on_jax.make_batches(config, arrays, "train", share=(0, 1))
    _, labels = next(batches.epoch(0))
    first, second = np.split(np.array(labels), 2)
    np.testing.assert_array_equal(first, second)


def test_another_file_is_no_ids(ids, text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    whole = bytearray(ids.read_bytes())
    flipped = whole.copy()
    flipped[len(whole) // 3] ^= 1
    for content in (text[0].read_bytes(), whole[:1000], flipped, b""):
        (tmp_path / "ids.npz").write_bytes(content)
        assert run_here("train", str(tmp_path / "ids.npz"), "--output", str(tmp_path / "r")) == 2
        assert "is not a file that `prepare` wrote." in capsys.readouterr().err
