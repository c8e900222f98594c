"""`ktransformer clean`, and the pairs that `train` takes."""

import json
import re

import pytest

from ktransformer.cli import main
from tests.run_command import refusal

LINES = [f"a man of {i} years sits\tein Mann von {i} Jahren sitzt\t0.5" for i in range(15)]
BAD = ["Berlin\tBerlin", "in 1987\tim Jahr 1456\t2", "\tleer", LINES[0]]


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_every_pair_is_kept_or_stands_with_its_line_and_reason_beside(tmp_path, capfd):
    (tmp_path / "t.tsv").write_text("\n".join([*LINES, *BAD]) + "\n", encoding="utf-8")
    words = ["clean", "--pairs", tmp_path / "t.tsv", "--output", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    assert lines_of(tmp_path / "out" / "pairs.tsv") == LINES
    dropped = [json.loads(line) for line in lines_of(tmp_path / "out" / "dropped.jsonl")]
    assert [(each["line"], each["reason"]) for each in dropped] == [
        (16, "identical"),
        (17, "digits"),
        (18, "empty"),
        (19, "duplicates"),
    ]
    assert dropped[1]["pair"] == ["in 1987", "im Jahr 1456", 2.0]
    counts = json.loads(capfd.readouterr().out)
    assert (counts["pairs"], counts["kept"]) == (19, 15)
    assert counts["dropped"]["duplicates"] == 1


def test_two_files_become_two_files_and_rules_are_those_that_are_named(tmp_path):
    for side, number in (("source", 0), ("target", 1)):
        texts = [line.split("\t")[number] for line in [*LINES, *BAD]]
        (tmp_path / side).write_text("\n".join(texts) + "\n", encoding="utf-8")
    words = ["--source", tmp_path / "source", "--target", tmp_path / "target", "--rules", "digits"]
    assert main(["clean", *map(str, words), "--output", str(tmp_path / "out")]) == 0
    assert lines_of(tmp_path / "out" / "source")[15:] == ["Berlin", "a man of 0 years sits"]
    assert lines_of(tmp_path / "out" / "target")[15:] == ["Berlin", "ein Mann von 0 Jahren sitzt"]


@pytest.mark.long
def test_a_line_of_10_mb_is_a_pair_like_another(tmp_path, capfd):
    long = "word " * 2_000_000
    (tmp_path / "t.tsv").write_text(f"{LINES[0]}\n{long}\t{long}x\n{LINES[1]}\n")
    words = ["clean", "--pairs", tmp_path / "t.tsv", "--output", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    assert json.loads(capfd.readouterr().out)["kept"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tA\nb\0\tB\n", "line 2, .*NUL"),
        (b"a\tA\n\xff\tB\n", "line 2, .*UTF-8"),
        (b"a\tA\nb\n", "line 2, .*0 tabs"),
        (b"a\tA\nb\tB\t1\t1\n", "line 2, .*3 tabs"),
        (b"a\tA\nb\tB\t-2\n", "line 2: weight.*-2"),
    ],
)
@pytest.mark.parametrize("command", ["clean", "train"])
def test_a_bad_line_is_named_and_nothing_is_written(command, content, message, tmp_path, capsys):
    path, output = tmp_path / "t.tsv", tmp_path / "out"
    path.write_bytes(content)
    found = refusal(capsys, command, "--pairs", path, "--output", output)
    assert re.search(message, found)
    assert [*tmp_path.iterdir()] == [path]


def test_text_is_two_files_or_pairs(tmp_path, capsys):
    (tmp_path / "t").write_text("a\tA\n")
    both = ["--pairs", "t", "--target", tmp_path / "t"]
    for words, expected in [
        ([], "--pairs"),
        (both, "--pairs"),
        (both[2:], "--target needs --source"),
    ]:
        for command in ("clean", "train"):
            message = refusal(capsys, command, *words, "--output", tmp_path / "out")
            assert expected in message


def test_an_unknown_rule_is_refused(tmp_path, capsys):
    (tmp_path / "t").write_text("a\tA\n")
    words = ("--pairs", tmp_path / "t", "--output", tmp_path / "out", "--rules", "digit")
    assert "'digit'" in refusal(capsys, "clean", *words)


@pytest.mark.long
def test_a_training_records_what_cleaning_dropped(tmp_path, caplog):
    (tmp_path / "t.tsv").write_text("\n".join([*LINES, *BAD, "x\ty\t0"]) + "\n", encoding="utf-8")
    sizes = "num_layers=1 d_model=16 hidden_dim=16 num_heads=2 max_length=32 batch_tokens=256"
    rules = "clean=identical,digits,duplicates"
    settings = f"{sizes} vocabulary_size=40 epochs=1 optimizer=adam {rules}".split()
    words = [word for setting in settings for word in ("--set", setting)]
    files = ["--pairs", tmp_path / "t.tsv", "--output", tmp_path / "run"]
    assert main(["train", *map(str, files), *words]) == 0
    history = json.loads((tmp_path / "run" / "model.json").read_text())["history"]
    assert history["dropped_identical"] == history["dropped_digits"] == [1]
    assert history["dropped_duplicates"] == history["dropped_weight_0"] == [1]
    assert "1 weight 0, 1 identical, 1 digits, 1 duplicates" in caplog.text
