import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import sentencepiece

from ktransformer.engines import ModelEngine, SavedModelEngine
from ktransformer.exporting import export_saved_model
from tests.export.requirements import need, need_program

pytestmark = pytest.mark.long

SOURCES = Path(__file__).parents[2] / "export" / "c"
OPERATIONS = sorted((Path(find_spec("tensorflow_text").origin).parent / "python/ops").glob("*.so"))
# As a user has it: no log level is set.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Builds a client, with what pip installed, and returns its path."""

    def build(name: str) -> Path:
        need_program("cc")
        folder = tmp_path_factory.mktemp("c")
        for file in ("Makefile", f"{name}.c"):
            shutil.copy(SOURCES / file, folder)
        make = [need_program("make"), "-C", folder, f"PYTHON={sys.executable}", name]
        subprocess.run(make, check=True, capture_output=True)
        return folder / name

    return build


@pytest.fixture(scope="module")
def saved_model_client(built):
    return built("saved_model")


@pytest.fixture(scope="module")
def lite_client(built):
    # Its declarations are those of one version: see the program.
    need(version("ai-edge-litert").startswith("2.3."), "ai-edge-litert 2.3")
    return built("lite")


def run(*words: object, text: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, words)),
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ENVIRONMENT,
    )


def test_the_c_client_of_the_saved_model_says_what_the_model_says(
    saved_model_client, saved_model, translator
):
    lines = ["four zero two", "", "   ", "nine one", "one " * 60, "odd é", "seven six"]
    result = run(saved_model_client, saved_model, *OPERATIONS, text="\n".join(lines))
    assert (result.returncode, result.stderr) == (
        0,
        "saved_model: 1 lines were cut, for they were too long.\n",
    )
    assert result.stdout.split("\n")[:-1] == ModelEngine(translator).translate(lines)


def test_the_c_client_widens_weights_that_are_stored_in_int8(
    saved_model_client, translator, tmp_path
):
    export = export_saved_model(
        translator, tmp_path, signatures=["serving_default"], quantization="int8_weights"
    )
    lines = ["four zero two", "nine one", "seven six"]
    result = run(saved_model_client, export, *OPERATIONS, text="\n".join(lines))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == SavedModelEngine(export).translate(lines)
    assert result.stdout.splitlines()[0] == "402"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: saved_model"),
        (["/nowhere", *OPERATIONS], "cannot load the model /nowhere"),
        (["MODEL", "/nowhere.so"], "cannot load the library /nowhere.so"),
        (["MODEL"], "Op type not registered"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(saved_model_client, saved_model, arguments, message):
    words = [saved_model if word == "MODEL" else word for word in arguments]
    result = run(saved_model_client, *words)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert message in line
    assert line.startswith("saved_model: ")


def test_a_log_level_of_zero_shows_what_tensorflow_logs(saved_model_client):
    shown = subprocess.run(
        [saved_model_client], capture_output=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    )
    assert len(shown.stderr.splitlines()) > 1


def test_the_c_client_of_the_tflite_says_what_the_model_says(lite_client, ids_file, translator):
    lines = ["four zero two", "", "nine one", "seven seven seven one six", "one " * 60]
    processor = sentencepiece.SentencePieceProcessor(f"{ids_file}.tokenizer.model")
    encoded = [" ".join(map(str, processor.encode(line))) for line in lines]
    result = run(lite_client, ids_file, text="\n".join(encoded))
    assert (result.returncode, result.stderr) == (
        0,
        "lite: 1 lines were cut, for they were too long.\n",
    )
    decoded = [processor.decode(list(map(int, row.split()))) for row in result.stdout.split("\n")]
    assert decoded[:-1] == ModelEngine(translator).translate(lines)


def test_a_bad_id_or_model_is_said_in_a_sentence(lite_client, ids_file, tmp_path):
    (tmp_path / "no.tflite").write_text("no model")
    assert 'lite: "x" is not an id.' in run(lite_client, ids_file, text="4 x\n").stderr
    assert "is not a LiteRT model" in run(lite_client, tmp_path / "no.tflite").stderr
    assert "usage: lite" in run(lite_client).stderr
