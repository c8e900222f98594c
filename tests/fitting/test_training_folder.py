"""The folder of a training: who holds it, and when what was in it goes."""

import fcntl
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.errors import InputError
from ktransformer.fitting import Resume, lock_checkpoints, remove_checkpoints, train
from ktransformer.fitting import run_folder as training_of_runs
from ktransformer.fitting.training_text import StreamedText
from ktransformer.text import PairFiles
from tests.fitting.small_training import TEXT, small
from tests.format_page import check_files
from tests.run_command import refusal
from tests.small_run import train_arguments


@pytest.fixture
def sides(data_folder):
    """Files of source and target."""
    return data_folder / "test.source", data_folder / "test.target"


def hold(folder):
    """Holds a folder and lets go."""
    with lock_checkpoints(folder):
        pass


def test_a_folder_is_of_one_training_at_a_time(tmp_path):
    checkpoints = tmp_path / "c"
    with lock_checkpoints(checkpoints):
        with pytest.raises(InputError, match=f"running.*{checkpoints}"):
            train(small(), TEXT, checkpoints=checkpoints, start=Resume())
        assert checkpoints.is_dir()
    assert not checkpoints.exists()


def test_a_folder_that_is_removed_before_it_is_held_is_made_anew(tmp_path, monkeypatch):
    flock, folder = fcntl.flock, tmp_path / "c"

    def late(descriptor, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        folder.rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock_checkpoints(folder), pytest.raises(InputError, match="running"):
        hold(folder)


def test_the_folder_of_the_next_training_is_left_alone(tmp_path):
    folder = tmp_path / "c"
    with lock_checkpoints(folder):
        remove_checkpoints(folder)
        folder.mkdir()
    assert folder.is_dir()


def test_the_folder_is_held_until_the_run_is_saved(sides, tmp_path, monkeypatch):
    saved = []

    def save(run, output, *, overwrite):
        with pytest.raises(InputError, match="running"):
            hold(tmp_path / "run.checkpoints")
        saved.append(output)

    monkeypatch.setattr(training_of_runs, "save_run", save)
    arguments = train_arguments(*sides, tmp_path / "run", "--set", "epochs=1")
    assert main(arguments) == 0
    assert saved == [tmp_path / "run"]
    assert not (tmp_path / "run.checkpoints").exists()


def test_a_training_that_was_cut_meanwhile_is_kept(sides, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "run.checkpoints" / "training.npz"
    lock = training_of_runs.lock_checkpoints

    def lock_late(*arguments, **options):
        kept.parent.mkdir()
        kept.touch()
        return lock(*arguments, **options)

    monkeypatch.setattr(training_of_runs, "lock_checkpoints", lock_late)
    assert "go on with --resume" in refusal(capsys, *train_arguments(*sides, tmp_path / "run"))
    assert kept.exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("vocabulary_size=5", "vocabulary_size"),
        ("max_target_length=9999", "max_target_length must be at most the model's max_length"),
    ],
)
def test_what_is_refused_leaves_what_was_kept(setting, sentence, sides, tmp_path, capsys):
    checkpoints = tmp_path / "run.checkpoints"
    checkpoints.mkdir()
    kept = [checkpoints / "training.npz", checkpoints / "epoch-0001.npz"]
    for path in kept:
        path.touch()
    arguments = train_arguments(*sides, tmp_path / "run", "--overwrite", "--set", setting)
    assert sentence in refusal(capsys, *arguments)
    assert all(path.exists() for path in kept)


def test_a_training_that_does_not_go_on_removes_what_was_kept(tmp_path):
    for name in ("training.npz", "epoch-0001.npz", "epoch-0009.npz"):
        np.savez(tmp_path / name, np.arange(3))
    train(small(epochs=1), TEXT, checkpoints=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001.npz", "training.npz"]


def test_the_page_on_formats_names_the_files_of_a_training(after_an_epoch, tmp_path):
    check_files("While a run is trained", after_an_epoch)
    lines = zip(TEXT.sources, TEXT.targets, (1, 2) * 12, strict=True)
    (tmp_path / "t.tsv").write_text("".join("{}\t{}\t{}\n".format(*line) for line in lines))
    checkpoints = shutil.copytree(after_an_epoch, tmp_path / "c")
    text = PairFiles(tmp_path / "t.tsv")
    StreamedText(text, small(shard_pairs=5), checkpoints, reuse=False).encode()
    long = {"of a long text", "of a long text, with weights"}
    check_files("While a run is trained", checkpoints, long)


def test_only_checkpoints_are_removed(tmp_path):
    (tmp_path / "shards").mkdir()
    foreign = ["thesis.txt", "epoch-best.npz", "epoch-0002.npz", "shards/00001.source.txt"]
    for name in foreign:
        (tmp_path / name).write_text("a user's own")
    np.savez(tmp_path / "epoch-0001.npz", np.arange(3))
    (tmp_path / "shards" / "00001.source.ids").touch()
    remove_checkpoints(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(foreign)


@pytest.mark.parametrize("name", ["epoch-0002.npz", "shards/index.txt", "shards/deeper/index.json"])
def test_a_training_that_begins_anew_removes_nothing_that_none_wrote(name, sides, tmp_path, capsys):
    foreign, kept = tmp_path / "run.checkpoints" / name, tmp_path / "run.checkpoints/training.npz"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("a user's own")
    np.savez(kept, np.arange(3))
    refused = refusal(capsys, *train_arguments(*sides, tmp_path / "run", "--overwrite"))
    assert name.split("/")[1 if "/" in name else 0] in refused
    assert foreign.read_text() == "a user's own"
    assert kept.exists()


@pytest.fixture
def saving(monkeypatch):
    """Trains nothing, keeps a state, and calls what is appended in the place of saving."""
    calls = []

    def train(read, config, *, checkpoints, **others):
        np.savez(checkpoints.path / "training.npz", np.arange(3))
        return SimpleNamespace(origin=None)

    monkeypatch.setattr(training_of_runs, "train_on", train)
    monkeypatch.setattr(training_of_runs, "save_run", lambda *arguments, **options: calls[0]())
    return calls


def test_a_link_in_the_place_of_the_folder_is_followed(sides, tmp_path, saving):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run.checkpoints").symlink_to(tmp_path / "scratch")
    kept = tmp_path / "scratch" / "training.npz"
    saving.append(kept.stat)
    assert main(train_arguments(*sides, tmp_path / "run")) == 0
    assert not kept.parent.exists()


def test_what_cannot_be_removed_after_the_run_is_saved_is_warned_of(
    sides, tmp_path, saving, monkeypatch, caplog
):
    def refuse(path, missing_ok=False):
        raise PermissionError(1, "Operation not permitted", str(path))

    saving.append(lambda: monkeypatch.setattr("pathlib.Path.unlink", refuse))
    assert main(train_arguments(*sides, tmp_path / "run")) == 0
    assert "cannot be removed: Operation not permitted" in caplog.text
    assert "--resume" not in caplog.text


def test_a_training_that_is_over_is_not_resumed(sides, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.json").touch()
    refused = refusal(capsys, *train_arguments(*sides, tmp_path / "run", "--resume"))
    assert "already exists: if it is of this training, that is over" in refused
