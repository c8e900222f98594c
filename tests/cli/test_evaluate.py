"""`ktransformer evaluate` and `ktransformer score`."""

import json
import re

from ktransformer.cli import main
from tests.run_command import refusal


def test_evaluate_prints_one_json_line(run_folder, data_folder, capfd):
    arguments = [
        "--source",
        data_folder / "test.source",
        "--reference",
        data_folder / "test.target",
    ]
    assert main(["evaluate", str(run_folder), *map(str, arguments)]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["exact_match"] >= 0.9
    assert result["sentences"] == 60
    assert "tok:13a" in result["signature"]
    assert 0 <= result["bleu"] <= 100
    assert result["chrf"] > 90


def test_a_byte_order_mark_costs_evaluate_no_match_and_unknown_characters_are_warned_of(
    run_folder, tmp_path, capfd, caplog
):
    (tmp_path / "source").write_bytes(b"\xef\xbb\xbffour two\nnine!\n")
    (tmp_path / "reference").write_bytes(b"\xef\xbb\xbf42\n0\n")
    files = ["--source", tmp_path / "source", "--reference", tmp_path / "reference"]
    assert main(["evaluate", str(run_folder), *map(str, files)]) == 0
    assert json.loads(capfd.readouterr().out)["exact_match"] == 0.5
    assert "'!' (1)" in caplog.text


def test_score_prints_log_probability_and_tokens_of_each_pair(run_folder, tmp_path, capfd):
    (tmp_path / "s").write_text("four zero two\nfour zero two\n")
    (tmp_path / "t").write_text("402\n999\n")
    arguments = ["--source", tmp_path / "s", "--target", tmp_path / "t"]
    assert main(["score", str(run_folder), *map(str, arguments)]) == 0
    (right, tokens), (wrong, _) = (line.split("\t") for line in capfd.readouterr().out.splitlines())
    assert float(wrong) < float(right) < 0
    assert int(tokens) >= 2


def test_score_reports_pairs_that_are_cut_on_either_side(run_folder, tmp_path, caplog):
    (tmp_path / "s").write_text("one\n" + "one " * 40 + "\n")
    (tmp_path / "t").write_text("1" * 40 + "\n1\n")
    arguments = ["--source", tmp_path / "s", "--target", tmp_path / "t"]
    assert main(["score", str(run_folder), *map(str, arguments)]) == 0
    assert re.search("2 pairs .*source to 24 .*target to 24", caplog.text)


def test_evaluate_takes_an_export(lite_file, data_folder, capfd):
    sides = ["--source", data_folder / "test.source", "--reference", data_folder / "test.target"]
    assert main(["evaluate", str(lite_file), *map(str, sides)]) == 0
    assert json.loads(capfd.readouterr().out)["exact_match"] >= 0.9


def test_files_of_different_numbers_of_lines_are_refused(run_folder, tmp_path, capsys):
    (tmp_path / "three").write_text("a\n\nc\n")
    (tmp_path / "two").write_text("a\nb\n")
    for command, second in (("evaluate", "--reference"), ("score", "--target")):
        sides = ["--source", tmp_path / "three", second, tmp_path / "two"]
        assert re.search(
            "got 3 in .*three and 2 in .*two", refusal(capsys, command, run_folder, *sides)
        )


def test_an_empty_line_keeps_its_place(run_folder, tmp_path, capfd):
    (tmp_path / "source").write_text("four\n\n")
    (tmp_path / "target").write_text("4\n\n")
    sides = ["--source", tmp_path / "source", "--target", tmp_path / "target"]
    assert main(["score", str(run_folder), *map(str, sides)]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2
