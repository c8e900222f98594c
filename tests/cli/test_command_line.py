"""Errors, streams and backends of every command."""

import os
import re
import subprocess
import sys

import pytest

from tests.run_command import command, refusal


def test_wrong_paths_are_named(run_folder, tmp_path, capsys):
    absent = tmp_path / "absent"
    output = ["--output", tmp_path / "out"]
    for line in (
        ["translate", absent],
        ["export", absent, *output],
        ["train", "--source", absent, "--target", absent, *output],
        ["evaluate", run_folder, "--source", absent, "--reference", absent],
        ["verify", absent, "--run", run_folder, "--source", absent],
    ):
        assert str(absent) in refusal(capsys, *line)


def test_keras_on_jax_is_refused_in_a_sentence(run_folder):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    result = command("translate", run_folder, env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith(b"ktransformer: ")
    assert b"jax, by KERAS_BACKEND" in result.stderr
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize("module", ["tasks", "exporting", "engines", "text", "fitting"])
def test_keras_on_a_backend_that_is_not_supported_is_refused_on_import(module):
    result = subprocess.run(
        [sys.executable, "-c", f"import ktransformer.{module}"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
        check=False,
    )
    assert re.match("ImportError: .*torch.*KERAS_BACKEND", result.stderr.splitlines()[-1])


def test_the_command_refuses_a_backend_that_is_not_installed_and_one_in_keras_json(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "openvino"}')
    for name, setting in (("KERAS_BACKEND", "torch"), ("KERAS_HOME", str(tmp_path))):
        environment = {key: os.environ[key] for key in os.environ if key != "KERAS_BACKEND"}
        result = command("translate", "run", env={**environment, name: setting})
        backend = b"openvino" if name == "KERAS_HOME" else b"torch"
        assert result.returncode == 2
        assert re.match(b"ktransformer: .*%s.*KERAS_BACKEND" % backend, result.stderr)
        assert result.stderr.count(b"\n") == 1


def test_a_file_whose_name_is_no_utf8_is_named(run_folder):
    name = os.fsdecode(b"\xff.txt")
    result = command("evaluate", run_folder, "--source", name, "--reference", name)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(b"ktransformer: ")
    assert rb"\udcff.txt" in result.stderr


def test_a_closed_stream_is_said_where_there_is_a_place_to_say_it():
    result = command("translate", "run", preexec_fn=lambda: os.close(0))
    assert result.returncode == 2
    assert result.stderr == b"ktransformer: A standard stream is closed.\n"
