import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktransformer.engines import ModelEngine

pytestmark = pytest.mark.long

PROGRAMS = Path(__file__).parents[2] / "export"
# As a user has it: no log level is set.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
LINES = ["four zero two", "", "nine one", "one " * 60, "odd é"]


def run(program: str, *arguments: object, text: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, PROGRAMS / program, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ENVIRONMENT,
    )


def test_the_client_of_the_saved_model_says_what_the_model_says(saved_model, translator):
    result = run("client.py", saved_model, text="\n".join(LINES))
    assert result.stdout.split("\n")[:-1] == ModelEngine(translator).translate(LINES)
    assert result.stderr == ""


def test_the_client_of_the_tflite_says_what_the_model_says(lite_file, translator):
    result = run("lite_client.py", lite_file, 2, text="\n".join(LINES))
    assert result.stdout.split("\n")[:-1] == ModelEngine(translator).translate(LINES)
    assert result.stderr == ""


def test_the_client_of_ids_says_what_the_model_says(ids_file, translator):
    result = run("lite_ids_client.py", ids_file, text="\n".join(LINES))
    assert result.stdout.split("\n")[:-1] == ModelEngine(translator).translate(LINES)
    assert result.stderr == ""


@pytest.mark.parametrize("client", ["client.py", "lite_client.py", "lite_ids_client.py"])
def test_bytes_that_are_no_utf8_are_translated_somehow(client, saved_model, lite_file, ids_file):
    model = {"client.py": saved_model, "lite_client.py": lite_file}.get(client, ids_file)
    result = subprocess.run(
        [sys.executable, PROGRAMS / client, model],
        input=b"\xff\xfe\nnine\n",
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert result.stdout.splitlines()[1] == b"9"


def test_a_file_without_the_signature_is_said_in_a_sentence(ids_file):
    result = run("lite_client.py", ids_file)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)


@pytest.mark.parametrize("program", ["client.py", "lite_client.py", "lite_ids_client.py"])
def test_a_missing_model_is_said_in_a_sentence(program):
    result = run(program, "/nowhere")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(program.removesuffix(".py"))


def test_the_load_test_prints_a_row_for_every_number_of_callers(saved_model):
    options = ["--callers", 1, 4, "--seconds", 0.2]
    rows = run("load_test.py", saved_model, *options, text="\n".join(LINES)).stdout.splitlines()
    assert [row.split("\t")[0] for row in rows] == ["callers", "1", "4"]
    assert all(float(value) > 0 for row in rows[1:] for value in row.split("\t")[1:4])


def test_the_first_requests_of_an_export_are_measured(lite_file):
    result = run("first_requests.py", lite_file, "--warmup", text="\n".join(LINES))
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "open",
        "warm-up",
        "request",
        "slowest",
        "requests",
        "memory:",
    ]


def test_the_speeds_of_exports_come_in_a_table(saved_model, lite_file, data_folder):
    result = run("speed.py", lite_file, saved_model, "--source", data_folder / "test.source")
    header, _, *rows = result.stdout.splitlines()
    assert header.startswith("| 60 texts in batches of 1 |")
    names, times, speeds = zip(*(row.strip("| ").split(" | ") for row in rows), strict=True)
    assert names == (str(lite_file), str(saved_model))
    assert float(speeds[1]) == pytest.approx(float(times[0]) / float(times[1]), abs=0.06)
