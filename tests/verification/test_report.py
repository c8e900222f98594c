"""The report as text and as JSON."""

import dataclasses
import json
import math

import pytest

from ktransformer.scores import Scores
from ktransformer.verification import Report, Result
from ktransformer.verification.compare import Difference

MODEL = Result("runs/x", "model", "serving_default", 1.5, 2.25, bytes=2048, truncated=3)


def report(**changes) -> Report:
    export = Result("x.tflite", "tflite", "serving_default", 0.1, 1.0, **changes)
    return Report(60, 8, 2, (MODEL, export))


def test_the_table_has_a_row_for_each_result():
    lines = report(identical=0.5, difference=0.25).to_text().splitlines()
    assert lines[0].startswith("60 examples in batches of 8, threads: 2; 3 of them")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:6]]
    assert rows[0][-3:] == ["ms an example", "identical", "difference"]
    assert rows[2][3:] == ["2.00 KiB", "1.50", "2.25", "1.0000", "0.000000"]
    assert rows[3][-2:] == ["0.5000", "0.250000"]
    assert lines[-1] == "All tolerances hold."


def test_scores_are_columns_where_there_are_references():
    lines = report(scores=Scores(12.5, 50.0, 0.25, "")).to_text().splitlines()
    assert lines[2].endswith("| BLEU | chrF | exact match |")
    assert lines[5].endswith("| 12.50 | 50.00 | 0.2500 |")
    assert lines[4].endswith("|  |  |  |")


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_the_first_differences_are_shown(shown):
    differences = tuple(Difference(i, f"source {i}", "a", "b", -1.0, -2.0) for i in (3, 7))
    text = report(differences=differences).to_text(differences=shown)
    assert [f"line {i}: source {i}" in text for i in (3, 7)] == [shown > 0, shown > 1]


def test_differences_are_shown_for_one_signature_of_an_export():
    differences = (Difference(3, "source", "a", "b", -1.0, -2.0),)
    other = Result("x.tflite", "tflite", "ids", 0.1, 1.0, differences=differences)
    both = report(differences=differences)
    both = dataclasses.replace(both, results=(*both.results, other))
    assert both.to_text().count("line 3: source") == 1


def test_what_is_broken_stands_last():
    assert report(broken=("x.tflite: bad.",)).to_text().splitlines()[-1] == "BROKEN: x.tflite: bad."


def test_texts_do_not_steer_the_terminal():
    difference = Difference(1, "so\x1b[2Jurce", "mo\rdel", "ex\u202eport", -1.0, -2.0)
    text = report(differences=(difference,)).to_text()
    assert not set(text) & {"\x1b", "\r", "\u202e"}
    assert r"so\x1b[2Jurce" in text


def test_the_json_says_null_where_a_number_is_none():
    fields = json.loads(report(difference=math.nan).to_json())
    assert fields["results"][1]["difference"] is None
    assert fields["examples"] == 60
