import os

import pytest

from ktransformer.errors import InputError
from ktransformer.serving.versions import find_versions, latest_change


def test_the_highest_number_comes_first(tmp_path):
    for name in ("9.tflite", "10.tflite", "11.tmp", "x.tflite", "12.tflite.part"):
        (tmp_path / name).touch()
    (tmp_path / "3").mkdir()
    (tmp_path / "99").touch()  # A file is no folder of a model.
    assert [each.number for each in find_versions(tmp_path)] == [10, 9, 3]
    assert find_versions(tmp_path)[0].path == tmp_path / "10.tflite"


def test_a_model_without_numbers_is_version_1(tmp_path):
    file = tmp_path / "model.tflite"
    file.touch()
    assert find_versions(file) == [(1, file)]
    assert find_versions(tmp_path) == [(1, tmp_path)]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing: there is no such file"):
        find_versions(tmp_path / "nothing")


def test_a_folder_changes_when_a_file_in_it_grows(tmp_path):
    file = tmp_path / "1" / "variables" / "data"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half")
    before = latest_change(tmp_path / "1")
    assert latest_change(tmp_path / "1") == before
    with file.open("ab") as content:
        content.write(b" and half")
    os.utime(file, ns=(before[0], before[0]))  # As a copy that keeps the times of the files.
    assert latest_change(tmp_path / "1") != before
