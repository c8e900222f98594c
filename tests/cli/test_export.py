"""`ktransformer export`."""

import json
import os
import re

import pytest

from ktransformer.cli import main
from ktransformer.engines import LiteEngine
from tests.run_command import command, limit_file_size, refusal


@pytest.mark.long
def test_export_takes_the_next_free_number(run_folder, tmp_path, capfd):
    export = ["export", str(run_folder), "--output", str(tmp_path / "model")]
    for number in ("1", "2"):
        assert main([*export, "--signatures", "serving_default"]) == 0
        assert capfd.readouterr().out.strip() == str(tmp_path / "model" / number)
    assert (tmp_path / "model" / "2" / "saved_model.pb").is_file()


def test_export_does_not_replace_a_file_unless_told(run_folder, tmp_path, capsys):
    output = tmp_path / "model.tflite"
    output.write_text("precious")
    export = ["export", run_folder, "--format", "tflite", "--output", output]
    assert str(output) in refusal(capsys, *export)
    assert output.read_text() == "precious"
    assert main([*map(str, export), "--overwrite", "--signatures", "encode"]) == 0
    assert output.read_bytes()[4:8] == b"TFL3"


@pytest.mark.long
def test_the_switches_of_the_search_are_baked_in(run_folder, tmp_path):
    path = tmp_path / "model.tflite"
    export = ["export", str(run_folder), "--format", "tflite", "--output", str(path)]
    switches = ["--no-early-stopping", "--no-score-forced-end", "--no-suppress-unknown"]
    assert main([*export, "--signatures", "serving_default", *switches]) == 0
    about = LiteEngine(path).description
    assert not about.decoding.early_stopping
    assert not about.decoding.score_forced_end
    assert about.special_ids["suppressed"] == [0, 2]
    assert LiteEngine(path).translate(["four zero two"]) == ["402"]


def test_export_refuses_what_does_not_go_together(run_folder, tmp_path, capsys):
    export = ["export", run_folder, "--output", tmp_path / "model"]
    for option in (["--quantize", "dynamic_int8"], ["--batch-size", 1], ["--overwrite"]):
        assert re.search(f"{option[0]}.*--format tflite", refusal(capsys, *export, *option))
    lite = [*export, "--format", "tflite"]
    message = refusal(capsys, *lite, "--signatures", "stream")
    assert re.search("signatures .*serving_default, beam, ids, encode.*stream", message)
    assert "got 25" in refusal(capsys, *lite, "--max-source-length", 25)
    onto_a_folder = [*lite[:2], "--format", "tflite", "--output", tmp_path]
    assert str(tmp_path) in refusal(capsys, *onto_a_folder)
    assert not (tmp_path / "model").exists()


@pytest.mark.long
def test_an_export_joins_requests_where_it_is_told_to(run_folder, tmp_path):
    export = ["export", str(run_folder), "--output", str(tmp_path / "model")]
    export += ["--signatures", "serving_default"]
    assert main([*export, "--batch-requests", "4", "--batch-timeout-ms", "2.5"]) == 0
    about = json.loads((tmp_path / "model" / "1" / "ktransformer.json").read_text())
    assert about["batching"] == {"max_texts": 4, "timeout_ms": 2.5, "threads": 1}


def test_requests_are_not_joined_where_they_cannot_be(run_folder, tmp_path, capsys):
    export = ["export", run_folder, "--output", tmp_path / "model"]
    lite = [*export, "--format", "tflite", "--batch-requests", 8]
    assert "--batch-requests" in refusal(capsys, *lite)
    alone = refusal(capsys, *export, "--batch-timeout-ms", 5)
    assert re.search("--batch-timeout-ms.*--batch-requests", alone)
    many = refusal(capsys, *export, "--batch-requests", 2000)
    assert re.search("max_texts.*1024.*2000", many)
    assert not (tmp_path / "model").exists()


def test_export_does_not_replace_a_tokenizer_that_lies_beside(run_folder, tmp_path, capsys):
    beside = tmp_path / "m.tflite.tokenizer.model"
    beside.write_text("precious")
    export = ["export", run_folder, "--format", "tflite", "--output", tmp_path / "m.tflite"]
    assert beside.name in refusal(capsys, *export, "--signatures", "ids")
    assert beside.read_text() == "precious"


@pytest.mark.long
@pytest.mark.parametrize("name", ["saved_model", "tflite"])
def test_an_export_to_a_full_disk_leaves_nothing_behind(run_folder, tmp_path, name):
    output = tmp_path / "exports" / "model"
    export = ("export", run_folder, "--format", name, "--signatures", "serving_default")
    result = command(*export, "--output", output, preexec_fn=limit_file_size)
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
    assert re.search("--shortlist-size .*--shortlist", refusal(capsys, *export))
    verify = ("verify", tmp_path, "--run", run_folder, "--source", tmp_path, "--max-bleu-drop", 1)
    assert re.search("--max-bleu-drop .*--reference", refusal(capsys, *verify))


@pytest.mark.long
def test_the_path_of_an_export_is_printed_whatever_its_name_is(run_folder, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.tflite"
    result = command(
        "export",
        run_folder,
        "--format",
        "tflite",
        "--signatures",
        "encode",
        "--output",
        os.fsdecode(name),
    )
    assert (result.returncode, result.stdout) == (0, name + b"\n"), result.stderr
