"""`ktransformer export`."""

import json
import os

import pytest

from ktransformer.cli import main
from tests.run_command import command, limit_file_size, refusal


@pytest.mark.long
def test_export_takes_the_next_free_number(run_folder, tmp_path, capfd):
    for number in ("1", "2"):
        assert main(["export", str(run_folder), "--output", str(tmp_path / "model")]) == 0
        assert capfd.readouterr().out.strip() == str(tmp_path / "model" / number)
    assert (tmp_path / "model" / "2" / "saved_model.pb").is_file()


def test_export_does_not_replace_a_file_unless_told(run_folder, tmp_path, capsys):
    output = tmp_path / "model.tflite"
    output.write_text("precious")
    export = ["export", run_folder, "--format", "tflite", "--output", output]
    assert "already exists" in refusal(capsys, *export)
    assert output.read_text() == "precious"
    assert main([*map(str, export), "--overwrite", "--signatures", "ids"]) == 0
    assert output.read_bytes()[4:8] == b"TFL3"


def test_export_refuses_what_does_not_go_together(run_folder, tmp_path, capsys):
    export = ["export", run_folder, "--output", tmp_path / "model"]
    message = "--quantize, --signatures, --batch-size and --overwrite go with --format tflite."
    for option in (["--quantize", "float16"], ["--batch-size", 1], ["--overwrite"]):
        assert message in refusal(capsys, *export, *option)
    lite = [*export, "--format", "tflite"]
    assert "signatures must be some of serving_default" in refusal(
        capsys, *lite, "--signatures", "stream"
    )
    assert "got 25" in refusal(capsys, *lite, "--max-source-length", 25)
    assert "is a folder" in refusal(capsys, *lite[:2], "--format", "tflite", "--output", tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.long
def test_an_export_joins_requests_where_it_is_told_to(run_folder, tmp_path):
    export = ["export", str(run_folder), "--output", str(tmp_path / "model")]
    assert main([*export, "--batch-requests", "4", "--batch-timeout-ms", "2.5"]) == 0
    about = json.loads((tmp_path / "model" / "1" / "ktransformer.json").read_text())
    assert about["batching"] == {"max_texts": 4, "timeout_ms": 2.5, "threads": 1}


def test_requests_are_not_joined_where_they_cannot_be(run_folder, tmp_path, capsys):
    export = ["export", run_folder, "--output", tmp_path / "model"]
    lite = [*export, "--format", "tflite", "--batch-requests", 8]
    assert "goes with a SavedModel: a .tflite has one caller at a time" in refusal(capsys, *lite)
    alone = "--batch-timeout-ms and --batch-threads go with --batch-requests."
    assert alone in refusal(capsys, *export, "--batch-timeout-ms", 5)
    assert "max_texts must be at most 1024" in refusal(capsys, *export, "--batch-requests", 2000)
    assert not (tmp_path / "model").exists()


def test_export_does_not_replace_a_tokenizer_that_lies_beside(run_folder, tmp_path, capsys):
    beside = tmp_path / "m.tflite.tokenizer.model"
    beside.write_text("precious")
    export = ["export", run_folder, "--format", "tflite", "--output", tmp_path / "m.tflite"]
    assert "already exists" in refusal(capsys, *export, "--signatures", "ids")
    assert beside.read_text() == "precious"


@pytest.mark.long
@pytest.mark.parametrize("name", ["saved_model", "tflite"])
def test_an_export_to_a_full_disk_leaves_nothing_behind(run_folder, tmp_path, name):
    output = tmp_path / "exports" / "model"
    result = command(
        "export", run_folder, "--format", name, "--output", output, preexec_fn=limit_file_size
    )
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(b"ktransformer: ")
    assert not list(output.parent.glob("**/*.*"))


@pytest.mark.long
def test_a_full_disk_leaves_the_old_file_with_its_own_tokenizer(run_folder, tmp_path):
    output, beside = tmp_path / "ids.tflite", tmp_path / "ids.tflite.tokenizer.model"
    for path in (output, beside):
        path.write_text("old")
    result = command(
        *("export", run_folder, "--format", "tflite", "--signatures", "ids", "--overwrite"),
        *("--output", output),
        preexec_fn=limit_file_size,
    )
    assert result.returncode == 2
    assert [path.read_text() for path in (output, beside)] == ["old", "old"]


def test_an_option_without_the_one_it_goes_with_is_refused(run_folder, tmp_path, capsys):
    output = ("--output", tmp_path / "model")
    export = ("export", run_folder, "--format", "saved_model", *output, "--shortlist-size", 9)
    assert "--shortlist-size goes with --shortlist" in refusal(capsys, *export)
    verify = ("verify", tmp_path, "--run", run_folder, "--source", tmp_path, "--max-bleu-drop", 1)
    assert "--max-bleu-drop goes with --reference" in refusal(capsys, *verify)


@pytest.mark.long
def test_the_path_of_an_export_is_printed_whatever_its_name_is(run_folder, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.tflite"
    result = command(
        "export",
        run_folder,
        "--format",
        "tflite",
        "--signatures",
        "ids",
        "--output",
        os.fsdecode(name),
    )
    assert (result.returncode, result.stdout) == (0, name + b"\n"), result.stderr
