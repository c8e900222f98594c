"""Nothing is replaced but what is ours, and no name in a folder of others is trusted."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_folder, new_file, new_folder, resolve
from tests.run_command import refusal

KIND = FolderKind("a pair", ("first", r"deeper/\d+"), required=("first",))

HOLD = """
import sys, time
from ktransformer.files import new_file, new_folder
make = {"file": new_file, "folder": new_folder}[sys.argv[2]]
with make(sys.argv[1]) as path:
    (path if sys.argv[2] == "file" else path / "half").write_text("half")
    print("inside", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def pair(tmp_path):
    """A folder of that kind."""
    folder = tmp_path / "pair"
    (folder / "deeper").mkdir(parents=True)
    for name in ("first", "deeper/1"):
        (folder / name).write_text("old")
    return folder


def replace(path):
    with new_folder(path, overwrite=True, kind=KIND) as folder:
        (folder / "first").write_text("new")


def test_a_folder_of_files_of_ours_is_replaced(pair):
    replace(pair)
    assert [path.name for path in pair.iterdir()] == ["first"]
    assert os.listdir(pair.parent) == ["pair"]


OF_OTHERS = ("thesis.tex", "First", "deeper/thesis.tex", "deeper/1/thesis.tex", "other/1", ".h")


@pytest.mark.parametrize("name", OF_OTHERS)
@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_with_a_file_of_others_is_refused_and_names_it(name, linked, pair):
    path = pair / name
    if path.parent.is_file():
        path.parent.unlink()
    path.parent.mkdir(exist_ok=True)
    path.write_text("a year of work")
    (pair.parent / "link").symlink_to(pair)
    target = pair.parent / "link" if linked else pair
    first = name.split("/")[0] if name.startswith("other") else name.removesuffix("/thesis.tex")
    with pytest.raises(InputError, match=f"pair.*{first}"):
        check_new_folder(target, overwrite=True, kind=KIND)
    with pytest.raises(InputError, match="pair"):
        replace(target)
    assert path.read_text() == "a year of work"
    assert (pair / "first").read_text() == "old"


def test_a_link_in_the_place_of_a_file_of_ours_is_not_ours(pair):
    (pair.parent / "elsewhere").write_text("")
    (pair / "deeper" / "2").symlink_to(pair.parent / "elsewhere")
    with pytest.raises(InputError, match="deeper/2"):
        replace(pair)


def replace_while_another_writes(path):
    with new_folder(path, overwrite=True, kind=KIND) as folder:
        (folder / "first").write_text("new")
        (path / "thesis.tex").write_text("a year of work")


def test_a_file_of_others_that_appears_while_ours_is_written_is_kept(pair):
    with pytest.raises(InputError, match=r"thesis\.tex"):
        replace_while_another_writes(pair)
    assert (pair / "thesis.tex").read_text() == "a year of work"
    assert (pair / "first").read_text() == "old"


def test_a_file_of_others_that_appears_at_the_last_moment_is_kept_and_named(
    pair, monkeypatch, caplog
):
    def check_and_write(*arguments, **options):
        (pair / "thesis.tex").write_text("a year of work")

    with new_folder(pair, overwrite=True, kind=KIND) as folder:
        (folder / "first").write_text("new")
        monkeypatch.setattr("ktransformer.files.outputs.check_new_folder", check_and_write)
    (kept,) = pair.parent.glob("pair.*.kept")
    assert [path.name for path in kept.iterdir()] == ["thesis.tex"]
    assert str(kept) in caplog.text
    assert (pair / "first").read_text() == "new"


def test_a_run_with_a_file_of_others_is_not_replaced_by_prune(run_copy, tmp_path, capsys):
    (run_copy / "thesis.tex").write_text("a year of work")
    (tmp_path / "corpus").write_text("one\n")
    arguments = ["prune", run_copy, "--corpus", tmp_path / "corpus", "--overwrite", "--output"]
    assert "thesis.tex" in refusal(capsys, *arguments, run_copy)
    assert (run_copy / "thesis.tex").read_text() == "a year of work"


def write_while_another_appears(path):
    with new_file(path, overwrite=False) as temporary:
        temporary.write_text("new")
        path.write_text("another's")


def test_a_file_that_appears_meanwhile_is_not_replaced_unasked(tmp_path):
    with pytest.raises(InputError, match="already exists"):
        write_while_another_appears(tmp_path / "output")
    assert (tmp_path / "output").read_text() == "another's"


def test_a_link_with_a_temporary_name_is_not_written_through(tmp_path):
    (tmp_path / "victim").write_text("precious")
    for name in (f".output.{os.getpid()}.new", ".output.new"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    with new_file(tmp_path / "output") as path:
        assert path.parent.stat().st_mode & 0o777 == 0o700
        path.write_text("new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "output").is_symlink()


def test_a_link_that_is_laid_meanwhile_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    with new_file(tmp_path / "output") as path:
        path.write_text("new")
        (tmp_path / "output").symlink_to(tmp_path / "victim")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "output").read_text() == "new"


def write_while_another_moves_it_away(path):
    with new_file(path) as temporary:
        temporary.parent.rename(path.with_name("moved"))
        temporary.parent.mkdir()
        temporary.write_text("planted")


def test_a_temporary_folder_that_was_moved_away_is_said(tmp_path):
    with pytest.raises(InputError, match="somebody moved away"):
        write_while_another_moves_it_away(tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a link to another user")
def test_a_link_of_another_user_where_all_may_write_is_not_followed(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o1777)
    (tmp_path / "all" / "link").symlink_to(tmp_path / "victim")
    assert resolve(tmp_path / "all" / "link") == tmp_path / "victim"
    os.lchown(tmp_path / "all" / "link", 12345, 12345)
    with pytest.raises(InputError, match="symbolic link"):
        resolve(tmp_path / "all" / "link")


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("link")
    for path in (tmp_path / "link", tmp_path / "link" / "in it"):
        with pytest.raises(InputError, match="leads to itself"):
            check_new_folder(path)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_a_killed_process_left_goes_with_the_next_writing_and_not_before(what, tmp_path):
    output = tmp_path / "[output]"
    make = new_file if what == "file" else new_folder

    def write():
        with make(output) as path:
            (path if what == "file" else path / "whole").write_text("whole")

    command = [sys.executable, "-c", HOLD, str(output), what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "inside\n"
        write()
        assert len(os.listdir(tmp_path)) == 2  # That of a process that lives stays.
        process.send_signal(signal.SIGKILL)
    assert len(os.listdir(tmp_path)) == 2
    (output if what == "file" else output / "whole").unlink()
    if what == "folder":
        output.rmdir()
    write()
    assert os.listdir(tmp_path) == ["[output]"]


@pytest.mark.parametrize("name", [".output.abcdefgh.new", ".output.abcdefgh.old", ".output.1.new"])
def test_what_only_looks_like_a_leaving_stays(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").touch()
    with new_file(tmp_path / "output") as path:
        path.write_text("new")
    assert (tmp_path / name / "thesis.tex").exists()


def test_threads_that_write_the_same_file_leave_one_whole_and_nothing_else(tmp_path):
    def write(number):
        for _ in range(20):
            with new_file(tmp_path / "output") as path:
                path.write_text(str(number) * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == ["output"]
    assert (tmp_path / "output").read_text() in {str(number) * 1000 for number in range(4)}
