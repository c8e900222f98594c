"""The program that measures cleaning on a corrupted text."""

import itertools
import json

from tests.run_command import program
from tests.small_run import write_pairs


def test_it_finds_most_of_what_it_corrupted(tmp_path):
    numbers = ["one", "two", "three", "four", "five", "six"]
    words = [
        f"{a} red dogs run over {b} fields with {c}"
        for a, b, c in itertools.product(numbers, repeat=3)
    ]
    pairs = [(text, text.replace("red dogs run over", "rote Hunde rennen auf")) for text in words]
    source, target = write_pairs(tmp_path, "text", pairs)
    result = program("training.cleaning.measure", "--source", source, "--target", target)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["pairs"], found["corrupted"]) == (216, 43)
    assert found["dropped though not corrupted"] == {}
    for each in found["rules"].values():
        assert each["precision"] == 1
        assert each["recall"] > 0.7
