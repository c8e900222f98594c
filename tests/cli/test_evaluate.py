"""`ktransformer evaluate` and `ktransformer score`."""

import json
import re
import sys

import pytest

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


@pytest.fixture
def files(tmp_path):
    """Source, reference and the translations of two systems, as the options name them."""
    references = [f"a man of {i} years sits on the grass" for i in range(12)]
    texts = {
        "source": references,
        "reference": references,
        "translations": [*references[:10], "a woman sits", "on grass"],
        "against-translations": [text.replace("grass", "roof") for text in references],
    }
    for name, lines in texts.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return [word for name in texts for word in (f"--{name}", str(tmp_path / name))]


def test_evaluate_compares_the_translations_of_two_files(files, capfd):
    assert main(["evaluate", *files, "--resamples", "100"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert 0 < result["ter"] < 20
    for name in ("bleu", "chrf", "ter"):
        found = result["against"][name]
        assert found["score"] == result[name]
        assert found["difference"] == pytest.approx(found["score"] - found["other"], abs=0.011)
        assert 0 < found["p_value"] <= 1
        low, high = found["interval"]
        assert low <= found["score"] <= high
        assert "seed:12345" in found["signature"]


def test_evaluate_compares_a_model_with_another(run_folder, lite_file, data_folder, capfd):
    sides = ["--source", data_folder / "test.source", "--reference", data_folder / "test.target"]
    words = ["evaluate", run_folder, *sides, "--against", lite_file, "--resamples", "20"]
    assert main([str(word) for word in words]) == 0
    found = json.loads(capfd.readouterr().out)["against"]["chrf"]
    assert found["score"] == found["other"] > 90


def test_evaluate_takes_one_system_and_at_most_one_to_compare_with(run_folder, files, capsys):
    assert "--translations" in refusal(capsys, "evaluate", *files[:4])
    assert "--translations" in refusal(capsys, "evaluate", run_folder, *files)
    assert "--against" in refusal(capsys, "evaluate", *files, "--against", run_folder)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--adapter", "a.npz"),
        ("--beam-size", 7),
        ("--length-penalty", 0),
        ("--copy", "none"),
        ("--tag", "2de"),
        ("--batch-size", 32),
        ("--threads", 1),
    ],
)
def test_options_of_an_engine_go_with_one(option, value, files, capsys):
    assert f"{option} goes with a MODEL" in refusal(capsys, "evaluate", *files, option, value)


def test_options_of_an_engine_are_those_of_the_other_model(run_folder, files, capsys):
    words = ["evaluate", *files[:6], "--against", run_folder]
    assert "'2de'" in refusal(capsys, *words, "--tag", "2de")
    assert "--adapter goes with a MODEL." in refusal(capsys, *words, "--adapter", "a.npz")


@pytest.mark.parametrize("option", ["--against", "--against-translations", "--comet"])
def test_an_empty_word_is_not_taken_for_an_option_that_was_left_out(option, files, capsys):
    refusal(capsys, "evaluate", *files[:6], option, "")


def test_an_empty_name_of_translations_is_refused(files, capsys):
    refusal(capsys, "evaluate", *files[:4], "--translations", "")


def test_resamples_go_with_another_system_and_a_comet_model_with_comet(files, capsys):
    message = refusal(capsys, "evaluate", *files[:6], "--resamples", 5)
    assert "--resamples goes with --against or --against-translations." in message
    message = refusal(capsys, "evaluate", *files, "--comet-model", "x")
    assert "--comet-model goes with --comet." in message


def test_without_comet_score_one_sentence_tells_where_to_get_it(files, capsys):
    assert "unbabel-comet" in refusal(capsys, "evaluate", *files, "--comet", "no-such-program")


def _comet_score(tmp_path, body):
    """A program in place of comet-score, which needs an environment of gigabytes."""
    path = tmp_path / "comet-score"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
    return path


def test_comet_is_that_of_comet_score_for_both_systems(files, tmp_path, capfd):
    body = """names = sys.argv[sys.argv.index("-t") + 1 :]
for i, name in enumerate(names):
    assert len(open(name).readlines()) == 12
    print(f"{name}\\tscore: {0.75 + i / 8:.4f}")"""
    program = _comet_score(tmp_path, body)
    assert main(["evaluate", *files, "--comet", str(program), "--resamples", "2"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["comet"], result["comet_against"]) == (0.75, 0.875)


def test_a_comet_model_that_is_missing_is_one_sentence(files, tmp_path, capsys):
    program = _comet_score(tmp_path, "sys.exit(\"KeyError: 'x' not supported by COMET.\")")
    words = ("evaluate", *files, "--comet", program, "--comet-model", "x")
    assert "the model x: KeyError" in refusal(capsys, *words)


def test_what_comet_score_says_need_not_be_utf8(files, tmp_path, capsys):
    program = _comet_score(tmp_path, "sys.stderr.buffer.write(b'f\\xfcr'), sys.exit(1)")
    assert "f\ufffdr" in refusal(capsys, "evaluate", *files, "--comet", program)


def test_a_seed_of_sacrebleu_that_is_no_number_is_refused(files, capsys, monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "abc")
    assert "SACREBLEU_SEED must be" in refusal(capsys, "evaluate", *files)
