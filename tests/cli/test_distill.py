"""`ktransformer distill`."""

from ktransformer.cli import main
from ktransformer.scores import nearest_text
from tests.run_command import refusal


def test_each_text_stands_with_its_target_its_nearest_and_its_first_translation(
    run_folder, tmp_path, translate
):
    (tmp_path / "source").write_text("one two three four five\nnine\n")
    (tmp_path / "target").write_text("1 2 3\n9\n")
    sides = ("--source", tmp_path / "source", "--target", tmp_path / "target")
    words = ("distill", run_folder, *sides, "--output", tmp_path / "distilled")
    assert main([str(word) for word in words]) == 0
    found = [
        (tmp_path / "distilled" / side).read_text().splitlines() for side in ("source", "target")
    ]
    assert found[0] == ["one two three four five"] * 3 + ["nine"] * 3
    status, text, _ = translate("one two three four five\nnine\n", run_folder, "--n-best", 3)
    best = text.splitlines()
    assert status == 0
    expected = []
    for target, texts in (("1 2 3", best[:3]), ("9", best[3:])):
        expected += [target, nearest_text(texts, target), texts[0]]
    assert found[1] == expected


def test_the_nearest_text_has_the_highest_bleu_and_is_the_first_of_those():
    texts = ["ein Hund", "ein Hund läuft", "zwei Hunde", "ein Hund läuft"]
    assert nearest_text(texts, "ein Hund läuft schnell") == "ein Hund läuft"
    assert nearest_text(["b", "a"], "c") == "b"


def test_a_folder_that_is_there_is_refused(run_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("one\n")
    sides = ("--source", tmp_path / "file", "--target", tmp_path / "file")
    assert str(tmp_path) in refusal(capsys, "distill", run_folder, *sides, "--output", tmp_path)
