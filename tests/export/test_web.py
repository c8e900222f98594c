import subprocess
from pathlib import Path

import pytest

from ktransformer.engines import ModelEngine
from ktransformer.exporting import export_lite
from tests.export.requirements import need, need_program

PAGE = Path(__file__).parents[2] / "export" / "web"


@pytest.fixture(scope="module")
def check():
    """Translates through the page, in a real browser."""
    node = need_program("node")
    need((PAGE / "node_modules" / "playwright-core").is_dir(), "npm install in export/web")
    browser = need_program("chromium", "chromium-browser", "google-chrome")

    def run(*arguments: object, text: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [node, PAGE / "check.mjs", *map(str, arguments)],
            input=text,
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "CHROMIUM": browser},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run


@pytest.mark.long
@pytest.mark.parametrize("quantization", ["none", "float16", "dynamic_int8"])
def test_the_page_says_what_the_model_says(check, translator, tmp_path, quantization):
    file = export_lite(
        translator,
        tmp_path / "page.tflite",
        signatures=["ids", "encode", "decode_step"],
        batch_size=1,
        quantization=quantization,
    )
    lines = [
        "four zero two",
        "",
        "  nine   one ",
        "seven seven seven one six",
        "odd é",
        "one " * 60,
    ]
    result = check(file, f"{file}.tokenizer.model", text="\n".join(lines) + "\n")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:-1] == ModelEngine(translator).translate(lines)


@pytest.mark.long
def test_a_model_without_fixed_shapes_is_said_to_be_unfit(check, ids_file):
    result = check(ids_file, f"{ids_file}.tokenizer.model", text="one\n")
    assert result.returncode == 2
    assert "has no signature from source [1, S] to ids, S being a fixed length." in result.stderr
