"""`ktransformer train`."""

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktransformer.cli import main
from tests.run_command import refusal
from tests.small_run import train_arguments


@pytest.mark.long
def test_a_model_that_memory_does_not_hold_is_refused_in_a_sentence(data_folder, tmp_path, capsys):
    sides = data_folder / "test.source", data_folder / "test.target"
    sizes = ("max_length=1000000", "batch_tokens=1000000", "d_model=65536")
    settings = (*sizes, "positions=learned")  # A table of 262 GB.
    large = [word for setting in settings for word in ("--set", setting)]
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run", *large))
    assert "memory" in message
    assert not list(tmp_path.iterdir())


def test_an_output_below_a_file_is_refused_before_training(data_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in message


def test_an_empty_file_is_refused(tmp_path, capsys):
    (tmp_path / "empty").touch()
    message = refusal(
        capsys, *train_arguments(tmp_path / "empty", tmp_path / "empty", tmp_path / "o")
    )
    assert str(tmp_path / "empty") in message
    assert not (tmp_path / "o").exists()


def test_different_numbers_of_lines_are_refused(data_folder, tmp_path, capsys):
    sides = data_folder / "train.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run"))
    assert re.search("3000 .*60 ", message)


def test_an_unknown_setting_lists_the_known_ones(data_folder, tmp_path, capsys):
    sides = data_folder / "test.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run", "--set", "width=3"))
    assert re.search("'width'.*d_model", message)


@pytest.mark.parametrize(
    ("option", "value", "suggestion"),
    [
        ("--set", "learning_rat=1", "learning_rate"),
        ("--set", "Epoch=1", "epochs"),
        ("--preset", "bas", "base"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_one_that_is_like_it(
    option, value, suggestion, tmp_path, capsys
):
    arguments = train_arguments(tmp_path / "s", tmp_path / "t", tmp_path / "run", option, value)
    assert refusal(capsys, *arguments).endswith(f" Did you mean {suggestion!r}?")


def test_a_mistyped_name_in_a_file_of_settings_is_answered_too(tmp_path, capsys):
    for text, suggestion in (("trainin:\n  epochs: 3", "training"), ("d_modle: 8", "d_model")):
        (tmp_path / "settings.yaml").write_text(text)
        arguments = train_arguments(tmp_path / "s", tmp_path / "t", tmp_path / "run")
        message = refusal(capsys, *arguments, "--config", tmp_path / "settings.yaml")
        assert message.endswith(f" Did you mean {suggestion!r}?")


def test_sizes_that_do_not_go_together_are_refused(data_folder, tmp_path, capsys):
    sides = data_folder / "test.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run", "--set", "num_heads=5"))
    assert re.search("d_model.*num_heads.*5", message)


def test_a_run_that_is_already_there_is_not_replaced(run_copy, data_folder, capsys):
    before = (run_copy / "model.json").read_bytes()
    sides = data_folder / "test.source", data_folder / "test.target"
    assert str(run_copy) in refusal(capsys, *train_arguments(*sides, run_copy))
    assert (run_copy / "model.json").read_bytes() == before


def test_a_source_that_is_not_there_leaves_the_state_of_a_training_that_was_cut(tmp_path, capsys):
    kept = tmp_path / "run.checkpoints" / "training.npz"
    kept.parent.mkdir()
    kept.touch()
    arguments = train_arguments(tmp_path / "typo", tmp_path / "typo", tmp_path / "run")
    assert "typo" in refusal(capsys, *arguments, "--overwrite")
    assert kept.exists()


@pytest.mark.parametrize("option", ["--source", "--validation-source", "--mix-source", "--pairs"])
def test_a_text_that_is_not_there_leaves_no_folder(option, data_folder, tmp_path, capsys):
    source, target = data_folder / "test.source", data_folder / "test.target"
    files = {"--source": source, "--target": target, option: tmp_path / "typo"}
    if option == "--pairs":
        files = {option: tmp_path / "typo"}
    if option not in ("--source", "--pairs"):
        files[option.replace("source", "target")] = target
    words = [word for each in files.items() for word in each]
    sentence = refusal(capsys, "train", *words, "--output", tmp_path / "runs" / "new" / "run")
    assert f"Cannot read {tmp_path / 'typo'}: No such file or directory." in sentence
    assert not list(tmp_path.iterdir())


def test_a_text_that_is_broken_leaves_no_folder(data_folder, tmp_path, capsys):
    (tmp_path / "broken").write_bytes(b"\xff\n")
    arguments = train_arguments(
        tmp_path / "broken", data_folder / "test.target", tmp_path / "runs" / "new" / "run"
    )
    assert "broken, line 1, is not valid UTF-8" in refusal(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_folder_for_tensorboard_that_cannot_be_made_is_refused(data_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    setting = f"tensorboard={tmp_path / 'file' / 'logs'}"
    arguments = train_arguments(*sides, tmp_path / "run", "--set", setting)
    assert str(tmp_path / "file" / "logs") in refusal(capsys, *arguments)


def test_a_folder_that_is_not_a_run_is_not_overwritten(data_folder, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    arguments = train_arguments(*sides, tmp_path / "photos", "--overwrite")
    assert str(tmp_path / "photos") in refusal(capsys, *arguments)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_a_run_that_cannot_be_saved_leaves_its_checkpoints(
    data_folder, tmp_path, monkeypatch, caplog
):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ktransformer.fitting.run_folder.save_run", full)
    sides = data_folder / "test.source", data_folder / "test.target"
    assert main(train_arguments(*sides, tmp_path / "run", "--set", "epochs=1")) == 2
    assert list((tmp_path / "run.checkpoints").glob("epoch-*.npz"))
    assert "run.checkpoints; --resume goes on from it." in caplog.text


def test_a_folder_in_the_place_of_the_checkpoints_is_left_alone(data_folder, tmp_path, capsys):
    (tmp_path / "run.checkpoints").mkdir()
    (tmp_path / "run.checkpoints" / "thesis.txt").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    assert "run.checkpoints" in refusal(capsys, *train_arguments(*sides, tmp_path / "run"))
    assert (tmp_path / "run.checkpoints" / "thesis.txt").exists()


def test_ctrl_c_before_a_state_is_written_does_not_promise_one(data_folder, tmp_path):
    os.mkfifo(tmp_path / "source")  # Read once the folder of checkpoints is made.
    arguments = train_arguments(tmp_path / "source", data_folder / "test.target", tmp_path / "run")
    line = [sys.executable, "-m", "ktransformer", *arguments]
    with (
        subprocess.Popen(line, stderr=subprocess.PIPE) as process,
        (tmp_path / "source").open("w"),
    ):
        assert (tmp_path / "run.checkpoints").is_dir()
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert b"--resume" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.long
def test_ctrl_c_during_training_leaves_the_old_run_whole(run_copy, data_folder):
    before = (run_copy / "model.keras").read_bytes()
    sides = data_folder / "train.source", data_folder / "train.target"
    arguments = train_arguments(*sides, run_copy, "--overwrite", "--set", "epochs=500")
    with _training(arguments, subprocess.PIPE) as process:
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert errors.splitlines()[-1].startswith(b"ktransformer: ")
    assert (run_copy / "model.keras").read_bytes() == before


@contextlib.contextmanager
def _training(arguments: list[str], errors: int) -> Iterator[subprocess.Popen]:
    """Starts a training, waits for the weights of its first epoch, and kills it in the end."""
    checkpoints = Path(f"{arguments[arguments.index('--output') + 1]}.checkpoints")
    line = [sys.executable, "-m", "ktransformer", *arguments]
    with subprocess.Popen(line, stderr=errors) as process:
        try:
            end = time.monotonic() + 120
            while not list(checkpoints.glob("epoch-*")):
                assert process.poll() is None, "The process ended before it was interrupted."
                assert time.monotonic() < end, "It took too long."
                time.sleep(0.2)
            yield process
        finally:
            process.kill()


def test_a_training_that_is_killed_leaves_the_old_run_whole(run_copy, data_folder):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    sides = data_folder / "train.source", data_folder / "train.target"
    arguments = train_arguments(*sides, run_copy, "--overwrite", "--set", "epochs=500")
    with _training(arguments, subprocess.DEVNULL) as process:
        process.kill()
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before
