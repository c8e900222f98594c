"""`ktransformer verify`."""

import json

import pytest

from ktransformer.cli import main
from tests.run_command import refusal


def test_verify_prints_a_table_and_writes_a_report(
    run_folder, lite_file, data_folder, tmp_path, capfd
):
    verify = ["verify", lite_file, "--run", run_folder, "--source", data_folder / "test.source"]
    assert main([*map(str, verify), "--json", str(tmp_path / "report.json")]) == 0
    assert capfd.readouterr().out.endswith("All tolerances hold.\n")
    assert json.loads((tmp_path / "report.json").read_text())["examples"] == 60


@pytest.mark.long
def test_verify_exits_with_1_where_a_tolerance_is_broken(run_folder, data_folder, tmp_path, capfd):
    export = ["export", run_folder, "--format", "tflite", "--quantize", "dynamic_int8"]
    export += ["--signatures", "serving_default"]
    assert main([*map(str, export), "--output", str(tmp_path / "int8.tflite")]) == 0
    files = ["--run", run_folder, "--source", data_folder / "test.source"]
    verify = ["verify", tmp_path / "int8.tflite", *files, "--max-score-difference"]
    assert main([*map(str, verify), "1"]) == 0
    assert main([*map(str, verify), "1e-9"]) == 1
    assert "BROKEN: " in capfd.readouterr().out


def test_verify_refuses_a_report_it_cannot_write_before_any_work(
    run_folder, lite_file, data_folder, tmp_path, capsys
):
    verify = ["verify", lite_file, "--run", run_folder, "--source", data_folder / "test.source"]
    assert str(tmp_path) in refusal(capsys, *verify, "--json", tmp_path)
    assert "/dev/null" in refusal(capsys, *verify, "--json", "/dev/null")


def test_verify_refuses_to_write_its_report_over_what_it_reads(
    run_folder, lite_file, data_folder, tmp_path, capsys
):
    source = tmp_path / "source"
    source.write_bytes((data_folder / "test.source").read_bytes())
    verify = ["verify", lite_file, "--run", run_folder, "--source", source]
    (tmp_path / "link").symlink_to(source)
    assert "of its own" in refusal(capsys, *verify, "--json", tmp_path / "link")
    assert "of its own" in refusal(capsys, *verify, "--json", lite_file)
    assert source.read_bytes() == (data_folder / "test.source").read_bytes()
