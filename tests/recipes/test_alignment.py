"""The programs that measure alignments."""

from tests.run_command import program

NUMBERS = [("one", "eins"), ("two", "zwei"), ("three", "drei"), ("four", "vier"), ("five", "fünf")]


def test_words_are_aligned_and_measured(tmp_path):
    pairs = [(a, b) for a in NUMBERS for b in NUMBERS if a != b] * 3
    for side, name in enumerate(("source", "target")):
        lines = [f"{first[side].title()} {second[side]}." for first, second in pairs]
        (tmp_path / name).write_text("\n".join(lines))
    sides = [tmp_path / "source", tmp_path / "target"]
    found = program(
        "training.alignment.align", "--train", *sides, "--source", sides[0], "--target", sides[1]
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["0-0 1-1"] * len(pairs)
