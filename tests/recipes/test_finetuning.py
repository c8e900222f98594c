"""The recipe of fine-tuning."""

from tests.run_command import program


def test_captions_are_split_by_whether_they_name_a_person(tmp_path):
    english = ["Two men talk.", "A dog runs.", "A Woman and a dog.", "Womanly things.", "Kids!"]
    (tmp_path / "en").write_text("\n".join(english) + "\n")
    (tmp_path / "de").write_text("1\n2\n3\n4\n5\n")
    sides = ("--source", tmp_path / "en", "--target", tmp_path / "de")
    result = program("training.finetuning.split", *sides, "--output", tmp_path / "split")
    assert result.returncode == 0, result.stderr
    found = {path.name: path.read_text() for path in (tmp_path / "split").iterdir()}
    assert found == {
        "people.en": "Two men talk.\nA Woman and a dog.\nKids!\n",
        "people.de": "1\n3\n5\n",
        "others.en": "A dog runs.\nWomanly things.\n",
        "others.de": "2\n4\n",
    }
