import json
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.fitting import TrainingState, open_state, train
from ktransformer.saving.run import load_run
from ktransformer.text import Tokenizer
from tests.run_command import command, limit_file_size
from tests.small_run import number_pairs, train_arguments, write_pairs
from tests.test_fitting import TEXT, small

STEPS = 3  # Updates an epoch of TEXT with 64 tokens a batch.
EVERY_UPDATE = {"checkpoint_minutes": 0, "dropout": 0.2, "attention_dropout": 0.1, "epochs": 5}


class CutError(Exception):
    """Stands in for a kill."""


class After(keras.callbacks.Callback):
    """Does something after so many updates, before the state of the last of them is written."""

    def __init__(self, updates: int) -> None:
        super().__init__()
        self.updates = updates

    def on_train_batch_end(self, batch, logs=None):
        self.updates -= 1
        if not self.updates:
            self.act()


class CutAfter(After):
    """Ends the training; with 0 updates, at the end of the epoch, when it has been evaluated."""

    def act(self):
        raise CutError

    def on_epoch_end(self, epoch, logs=None):
        if self.updates < 0:
            raise CutError


class SpoilAfter(After):
    """Puts NaN into the weights."""

    def act(self):
        weight = self.model.trainable_variables[-1]
        weight.assign(np.full(weight.shape, np.nan))


def state_of(folder: Path) -> list[np.ndarray]:
    """Everything in a training's state: position and history first, then every variable."""
    with np.load(folder / "training.npz") as file:
        return [file[name] for name in file.files]


def assert_same(first, second) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()


MUON = {"accumulate_batches": 3, "subword_alpha": 0.3, "patience": 1, "optimizer": "muon"}
HALF = {
    "dtype": "mixed_float16",
    "remat": True,
    "rdrop_alpha": 1.0,
    "schedule": "cosine",
    "bleu_sentences": 200,
}


@pytest.mark.parametrize(
    ("cuts", "settings"),
    [
        ([2 + STEPS], MUON),
        pytest.param([2, 0, 2 + STEPS], MUON, marks=pytest.mark.long),
        pytest.param([2, 0, 2 + STEPS], HALF, marks=pytest.mark.long),
    ],
)
def test_a_training_that_was_cut_ends_as_if_it_had_not_been(cuts, settings, tmp_path):
    config = small(**EVERY_UPDATE, **settings)
    whole = train(config, TEXT, TEXT, checkpoints=tmp_path / "whole")
    cut = tmp_path / "cut"
    for updates in cuts:
        with pytest.raises(CutError):
            train(config, TEXT, TEXT, checkpoints=cut, resume=True, callbacks=[CutAfter(updates)])
    run = train(config, TEXT, TEXT, checkpoints=cut, resume=True)
    assert_same(state_of(cut), state_of(tmp_path / "whole"))
    assert_same(run.model.get_weights(), whole.model.get_weights())
    assert run.history == whole.history


@pytest.mark.long
def test_a_training_that_is_over_is_not_gone_on_with(tmp_path):
    config = small(**EVERY_UPDATE, learning_rate=1e-12, patience=1)
    first = train(config, TEXT, TEXT, checkpoints=tmp_path)
    again = train(config, TEXT, TEXT, checkpoints=tmp_path, resume=True)
    assert again.history == first.history
    assert len(first.history["loss"]) == 2
    assert_same(again.model.get_weights(), first.model.get_weights())


@pytest.mark.long
def test_more_epochs_go_on_where_fewer_ended(tmp_path):
    long, short = (small(**{**EVERY_UPDATE, "epochs": epochs}) for epochs in (4, 2))
    whole = train(long, TEXT, checkpoints=tmp_path / "whole")
    train(short, TEXT, checkpoints=tmp_path / "short")
    more = train(long, TEXT, checkpoints=tmp_path / "short", resume=True)
    assert more.history == whole.history
    assert_same(more.model.get_weights(), whole.model.get_weights())


@pytest.mark.parametrize("accumulate_batches", [1, 3])
def test_weights_that_are_no_numbers_leave_the_last_good_state(accumulate_batches, tmp_path):
    config = small(**EVERY_UPDATE, accumulate_batches=accumulate_batches)
    with pytest.raises(InputError, match="not a finite number after update 7; lower"):
        train(config, TEXT, checkpoints=tmp_path, callbacks=[SpoilAfter(7)])
    head, *arrays = state_of(tmp_path)
    assert json.loads(head.tobytes())["update"] == 6
    assert all(np.isfinite(array).all() for array in arrays)


def test_a_training_that_goes_on_elsewhere_says_how_the_places_differ(tmp_path, caplog):
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    train(config, TEXT, checkpoints=tmp_path)
    state = tmp_path / "training.npz"
    head, *arrays = state_of(tmp_path)
    saved = json.loads(head.tobytes())
    assert saved["environment"]["tensorflow"] == tf.__version__
    caplog.clear()
    open_state(tmp_path, config, saved["about"], resume=True)
    assert not caplog.records
    saved["environment"] |= {"intra_op_threads": 3, "keras": "2.0"}
    np.savez(state, np.frombuffer(json.dumps(saved).encode(), "uint8"), *arrays)
    open_state(tmp_path, config, saved["about"], resume=True)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    assert f"intra_op_threads=3 before, {threads} now" in warning
    assert f"keras=2.0 before, {keras.__version__} now" in warning


def test_what_is_chosen_from_the_text_is_compared_when_a_training_goes_on(tmp_path):
    # Three updates an epoch: a warm-up of 1 is chosen, and a cosine that ends with the third.
    chosen = small(epochs=3, learning_rate=None, optimizer=None, warmup_steps=None)
    train(chosen, TEXT, checkpoints=tmp_path)
    for settings, message in (
        ({"warmup_steps": 2}, "with warmup_steps=1; got warmup_steps=2"),
        ({"schedule": "inverse_square_root"}, "with optimizer='muon'; got optimizer='adam'"),
        ({"epochs": 4}, "with epochs=3; got epochs=4"),
    ):
        with pytest.raises(InputError, match=message):
            train(chosen.replace(settings), TEXT, checkpoints=tmp_path, resume=True)
    same = train(chosen.replace({"warmup_steps": 1}), TEXT, checkpoints=tmp_path, resume=True)
    assert len(same.history["loss"]) == 3


@pytest.fixture(scope="module")
def after_an_epoch(tmp_path_factory) -> Path:
    """The folder of a training of one epoch."""
    folder = tmp_path_factory.mktemp("an_epoch")
    train(small(**{**EVERY_UPDATE, "epochs": 1}), TEXT, TEXT, checkpoints=folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "text", "message"),
    [
        ({"dropout": 0.3}, TEXT, "is of a training with dropout=0.2; got dropout=0.3"),
        (
            {"optimizer": "muon"},
            TEXT,
            "is of a training with optimizer='adam'; got optimizer='muon'",
        ),
        ({"patience": 1}, TEXT, "is of a training with patience=None; got patience=1"),
        ({"seed": 7}, TEXT, "is of a training with seed=1; got seed=7"),
        ({}, type(TEXT)(TEXT.sources[:-3], TEXT.targets[:-3], 0), "with other text pairs"),
    ],
)
def test_another_training_is_not_gone_on_with(settings, text, message, after_an_epoch):
    config = small(**{**EVERY_UPDATE, **settings})
    with pytest.raises(InputError, match=message):
        train(config, text, TEXT, checkpoints=after_an_epoch, resume=True)


def test_a_training_from_before_an_option_goes_on_where_that_has_its_default(
    after_an_epoch, tmp_path
):
    head, *arrays = state_of(after_an_epoch)
    content = json.loads(head.tobytes())
    del content["about"]["config"]["training"]["weight_decay"]
    np.savez(
        tmp_path / "training.npz", np.frombuffer(json.dumps(content).encode(), "uint8"), *arrays
    )
    about = {key: content["about"][key] for key in ("text", "validation")}
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    assert open_state(tmp_path, config, about, resume=True).update == STEPS
    with pytest.raises(InputError, match=r"with weight_decay=0\.0; got weight_decay=0\.9"):
        open_state(tmp_path, config.replace({"weight_decay": 0.9}), about, resume=True)


def test_a_training_with_another_tokenizer_is_not_gone_on_with(
    after_an_epoch, tmp_path, monkeypatch
):
    shutil.copytree(after_an_epoch, tmp_path / "c")
    monkeypatch.setattr(Tokenizer, "sha256", "of another version of SentencePiece")
    with pytest.raises(InputError, match="is of a training with another tokenizer"):
        train(small(**EVERY_UPDATE), TEXT, TEXT, checkpoints=tmp_path / "c", resume=True)


@pytest.mark.long
def test_the_progress_of_an_epoch_that_goes_on_counts_all_epochs(tmp_path, capfd):
    config = small(**EVERY_UPDATE)
    with pytest.raises(CutError):
        train(config, TEXT, checkpoints=tmp_path, callbacks=[CutAfter(STEPS + 2)])
    capfd.readouterr()
    train(config, TEXT, checkpoints=tmp_path, resume=True)
    lines = capfd.readouterr().err.splitlines()
    numbers = [line for line in lines if line.startswith("Epoch")]
    assert numbers == [f"Epoch {number}/5" for number in (2, 3, 4, 5)]


def test_a_training_from_other_kinds_of_batches_is_not_gone_on_with(after_an_epoch):
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    with pytest.raises(InputError, match="of a training with other ids pairs"):
        open_state(after_an_epoch, config, {"ids": "these"}, resume=True)


def test_a_cosine_schedule_ends_where_it_was_to_end(tmp_path):
    config = small(**{**EVERY_UPDATE, "epochs": 1, "schedule": "cosine"})
    train(config, TEXT, checkpoints=tmp_path)
    with pytest.raises(InputError, match="is of a training with epochs=1; got epochs=2"):
        train(config.replace({"epochs": 2}), TEXT, checkpoints=tmp_path, resume=True)


def test_a_damaged_state_is_named(after_an_epoch, tmp_path):
    whole = (after_an_epoch / "training.npz").read_bytes()
    (tmp_path / "training.npz").write_bytes(whole[:1000])
    with pytest.raises(InputError, match=r"training\.npz is not the whole state of a training"):
        train(small(**EVERY_UPDATE), TEXT, checkpoints=tmp_path, resume=True)


@pytest.mark.parametrize("what", ["missing", "cut", "of other shapes", "NaN", "no archive"])
def test_a_damaged_file_of_an_epoch_is_found_before_a_training_goes_on(
    what, after_an_epoch, tmp_path
):
    folder = shutil.copytree(after_an_epoch, tmp_path / "c")
    path = folder / "epoch-0001.npz"
    with np.load(path) as file:
        arrays = [file[name] for name in file.files]
    content = path.read_bytes()
    path.unlink()
    if what == "of other shapes":
        np.savez(path, *arrays[:-1])
    elif what == "NaN":
        np.savez(path, *arrays[:-1], np.full_like(arrays[-1], np.nan))
    elif what != "missing":
        path.write_bytes(content[:-500] if what == "cut" else b"no archive")
    with pytest.raises(InputError, match=r"epoch-0001\.npz"):
        train(small(**{**EVERY_UPDATE, "epochs": 2}), TEXT, TEXT, checkpoints=folder, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"update": "3"},
        {"update": -1},
        {"update": 2},
        {"history": [1, 2]},
        {"history": {"loss": "0.5"}},
        {"history": {}},
        {"about": None},
        {"about": {}},
        {"format_version": "1"},
        {"format_version": None},
        {"variables": 10**6},
        {"variables": 3},
    ],
    ids=str,
)
def test_a_crafted_head_of_a_state_is_refused(change, after_an_epoch, tmp_path):
    head, *arrays = state_of(after_an_epoch)
    folder = shutil.copytree(after_an_epoch, tmp_path / "c")
    head = json.dumps({**json.loads(head.tobytes()), **change}).encode()
    np.savez(folder / "training.npz", np.frombuffer(head, "uint8"), *arrays)
    with pytest.raises(InputError, match=r"training\.npz is"):
        train(small(**{**EVERY_UPDATE, "epochs": 2}), TEXT, TEXT, checkpoints=folder, resume=True)


def crafted_archive(path: Path, member: str, content: bytes, compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(member, content)


def array_of(header: str, data: bytes = b"") -> bytes:
    """The bytes of an .npy file with a header of one's own."""
    line = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + data


@pytest.mark.parametrize(
    ("member", "content", "compression"),
    [
        ("arr_0.npy", array_of("{'descr':'|u1','fortran_order':False,'shape':(10**13,)}"), 0),
        ("arr_0.npy", array_of("{'descr':'|u1','fortran_order':False,'shape':(9999999999,)}"), 0),
        (
            "arr_0.npy",
            array_of("{'descr':'|O','fortran_order':False,'shape':(1,)}", bytes(8)),
            0,
        ),
        ("arr_0.npy", array_of("(" * 90), 0),
        ("arr_0.npy", b"", 0),
        ("arr_0.npy", bytes(10**7), zipfile.ZIP_DEFLATED),
        ("thesis.txt", b"precious", 0),
        ("arr_0.npy", array_of("{'descr':'|u1','fortran_order':False,'shape':(8,)}", b"[" * 8), 0),
        (
            "arr_0.npy",
            array_of("{'descr':'|u1','fortran_order':False,'shape':(99999,)}", b"[" * 99_999),
            0,
        ),
    ],
    ids=["power", "huge", "object", "nested", "empty", "bomb", "other", "no JSON", "deep JSON"],
)
def test_a_crafted_state_is_refused(member, content, compression, tmp_path):
    crafted_archive(tmp_path / "training.npz", member, content, compression)
    with pytest.raises(InputError, match=r"training\.npz is not the whole state of a training"):
        TrainingState(tmp_path / "training.npz").read()


@pytest.fixture
def arguments(tmp_path):
    """The command line of a training of some seconds that writes its state at every update."""
    files = write_pairs(tmp_path, "text", number_pairs(1000, seed=5))
    names = ("validation-source", "validation-target")
    validation = [
        word for name, file in zip(names, files, strict=True) for word in (f"--{name}", str(file))
    ]
    settings = ("epochs=30", "checkpoint_minutes=0", "bleu_sentences=0", "average_checkpoints=3")
    more = [word for setting in settings for word in ("--set", setting)]

    def make(output: Path, *options: str) -> list[str]:
        return train_arguments(*files, output, *validation, *more, *options)

    return make


def start(arguments: list[str], state: Path) -> subprocess.Popen:
    """Starts a training and waits until it has written its state."""
    written = _written(state)
    line = [sys.executable, "-m", "ktransformer", *arguments]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    while process.poll() is None and _written(state) == written:
        time.sleep(0.01)
    return process


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


@pytest.mark.long
def test_a_training_killed_at_ten_random_moments_ends_as_if_it_had_not_been(arguments, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    state = tmp_path / "killed.checkpoints" / "training.npz"
    assert command(*arguments(whole)).returncode == 0
    moments = random.Random(0)
    for _ in range(10):
        process = start(arguments(killed, "--resume"), state)
        time.sleep(moments.uniform(0, 0.7))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    result = command(*arguments(killed, "--resume"))
    assert result.returncode == 0, result.stderr.decode()
    assert b"Going on after update" in result.stderr
    first, second = load_run(whole), load_run(killed)
    assert_same(first.model.get_weights(), second.model.get_weights())
    assert first.history == second.history
    assert not state.parent.exists()


def test_a_full_disk_leaves_the_state_before(arguments, tmp_path):
    state = tmp_path / "run.checkpoints" / "training.npz"
    process = start(arguments(tmp_path / "run"), state)
    process.kill()
    process.wait()
    before = state.read_bytes()
    line = arguments(tmp_path / "run", "--resume")
    result = command(*line, preexec_fn=limit_file_size)  # Writing past it fails as on a full disk.
    assert result.returncode == 2
    assert (
        result.stderr.decode().splitlines()[-1]
        == "ktransformer: Writing the output: File too large."
    )
    assert state.read_bytes() == before
