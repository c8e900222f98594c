import json
import os
import signal
import subprocess
import sys

import pytest

from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_folder, json_text, new_file, new_folder

WRITE_AND_WAIT = """
import sys, time
from ktransformer.files import FolderKind, new_folder
kind = FolderKind("a folder", ("name", "deeper/name", "only in the old one"))
with new_folder(sys.argv[1], overwrite=True, kind=kind) as folder:
    (folder / "name").write_text("half of the new o")
    print("inside", flush=True)
    time.sleep(120)
"""
KIND = FolderKind("a folder", ("name", "deeper/name", "only in the old one", "old", "new"))


def write(folder, content):
    (folder / "deeper").mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(content)
    (folder / "deeper" / "name").write_text(content)


def write_and_raise(path, error, **options):
    with new_folder(path, **options) as folder:
        write(folder, "new")
        raise error


def write_file_and_raise(path, error):
    with new_file(path) as temporary:
        temporary.write_text("new")
        raise error


def write_while_another_appears(path):
    with new_folder(path) as folder:
        write(folder, "new")
        write(path, "another process's")


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


def whole(content):
    return {"name": content, "deeper/name": content}


@pytest.fixture
def old(tmp_path):
    write(tmp_path / "run", "old")
    (tmp_path / "run" / "only in the old one").write_text("")
    return tmp_path / "run"


def test_a_folder_appears_with_all_that_was_written(tmp_path):
    with new_folder(tmp_path / "run") as folder:
        write(folder, "new")
    assert contents(tmp_path) == {"run/name": "new", "run/deeper/name": "new"}


def test_nothing_has_the_name_before_the_block_ends(tmp_path):
    with new_folder(tmp_path / "run") as folder:
        write(folder, "new")
        assert not (tmp_path / "run").exists()
        # A rename is atomic within one file system only; nobody else may enter.
        assert folder.parent.parent == tmp_path
        assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_parents_are_made_too(tmp_path):
    with new_folder(str(tmp_path / "a" / "b" / "run")) as folder:
        write(folder, "new")
    assert contents(tmp_path / "a" / "b" / "run") == whole("new")


def test_a_relative_path_is_made_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_folder("run") as folder:
        write(folder, "new")
    assert contents(tmp_path / "run") == whole("new")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(error):
        write_and_raise(tmp_path / "run", error)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("made", [new_folder, new_file])
def test_a_block_that_raises_leaves_no_new_parents_behind(tmp_path, made):
    with pytest.raises(RuntimeError), made(tmp_path / "a" / "b" / "run"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_what_others_wrote_into_new_parents_stays(tmp_path):
    def write_beside_and_raise():
        with new_folder(tmp_path / "a" / "b" / "run"):
            (tmp_path / "a" / "theirs").write_text("theirs")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_beside_and_raise()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "theirs"]


def test_a_block_that_raises_leaves_the_old_folder_as_it_was(old):
    before = contents(old)
    with pytest.raises(RuntimeError):
        write_and_raise(old, RuntimeError, overwrite=True, kind=KIND)
    assert contents(old) == before
    assert os.listdir(old.parent) == ["run"]


def test_overwriting_replaces_the_whole_folder(old):
    with new_folder(old, overwrite=True, kind=KIND) as folder:
        write(folder, "new")
        assert contents(old)["name"] == "old"
    assert contents(old) == whole("new")
    assert os.listdir(old.parent) == ["run"]


def test_an_existing_folder_is_an_input_error_before_the_block_begins(old):
    before = contents(old)
    rule = rf"{old} already exists; .*--overwrite"
    with pytest.raises(InputError, match=rule), new_folder(old):
        pytest.fail("The block began.")
    assert contents(old) == before
    assert os.listdir(old.parent) == ["run"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_way_is_an_input_error(tmp_path, overwrite):
    (tmp_path / "run").write_text("a file")
    file = tmp_path / "run"
    rule = rf"{file} is a file"
    with pytest.raises(InputError, match=rule), new_folder(file, overwrite=overwrite):
        pytest.fail("The block began.")
    assert contents(tmp_path) == {"run": "a file"}


def test_a_folder_that_appears_meanwhile_is_not_replaced_unasked(tmp_path):
    with pytest.raises(InputError, match="already exists"):
        write_while_another_appears(tmp_path / "run")
    assert contents(tmp_path / "run") == whole("another process's")


def test_overwriting_a_link_to_a_folder_succeeds_and_leaves_nothing_behind(old):
    link = old.with_name("link")
    link.symlink_to(old)
    with new_folder(link, overwrite=True, kind=KIND) as folder:
        write(folder, "new")
    assert contents(link) == whole("new")
    assert sorted(os.listdir(old.parent)) == ["link", "run"]


def test_the_check_alone_raises_the_same_and_makes_nothing(old):
    with pytest.raises(InputError, match="already exists"):
        check_new_folder(old)
    check_new_folder(old, overwrite=True, kind=KIND)
    check_new_folder(old.with_name("other"))
    assert os.listdir(old.parent) == ["run"]


def test_a_new_folder_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "usual").mkdir()
    with new_folder(tmp_path / "run") as folder:
        write(folder, "new")
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_process_killed_inside_the_block_leaves_the_old_folder_whole(old):
    before = contents(old)
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(old)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert contents(old) == before
    with new_folder(old, overwrite=True, kind=KIND) as folder:  # What it left is not in the way.
        write(folder, "new")
    assert contents(old) == whole("new")
    assert os.listdir(old.parent) == ["run"]


def test_a_new_file_replaces_the_old_one_when_the_block_ends(tmp_path):
    file = tmp_path / "output"
    file.write_text("old")
    with new_file(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert contents(tmp_path) == {"output": "new"}


def test_a_new_file_of_a_block_that_raises_leaves_the_old_one(tmp_path):
    file = tmp_path / "output"
    file.write_text("old")
    with pytest.raises(RuntimeError):
        write_file_and_raise(file, RuntimeError)
    assert contents(tmp_path) == {"output": "old"}


def test_where_names_cannot_be_swapped_in_one_step_they_are_swapped_in_three(tmp_path, monkeypatch):
    monkeypatch.setattr("ktransformer.files.outputs.ctypes.CDLL", lambda name: object())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").touch()
    with new_folder(tmp_path / "run", overwrite=True, kind=KIND) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["new"]


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"), new_file(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_of_a_link_the_file_that_it_points_to_is_replaced(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with new_file(tmp_path / "link") as path:
        path.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_json_has_null_where_a_number_is_none():
    text = json_text([{"a": (1.5, float("nan")), "b": [float("-inf"), 2]}, "é", True, None])
    assert "é" in text
    assert json.loads(text) == [{"a": [1.5, None], "b": [None, 2]}, "é", True, None]
