"""The tolerances: which hold for an export, and what exceeds them."""

import dataclasses
import math

import pytest

from ktransformer.errors import InputError
from ktransformer.scores import Scores
from ktransformer.verification import Result, Tolerances
from ktransformer.verification.tolerances import check_demands, find_broken

LIMITS = {"min_identical": 0.9, "max_score_difference": 0.01, "max_bleu_drop": 0.3}
BLEU_ALONE = {"max_bleu_drop": 0.3}


def result(bleu: float = 30.0, chrf: float = 50.0, exact_match: float = 0.0, **changes) -> Result:
    fields = {"name": "x", "kind": "tflite", "signature": "beam", "load_seconds": 1.0}
    scores = Scores(bleu, chrf, exact_match, "")
    return Result(**{**fields, "milliseconds": 1.0, "scores": scores, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bleu": 29.6}, "0.40 BLEU are lost, more than 0.3"),
        ({"bleu": math.nan}, "nan BLEU"),
        ({"identical": 0.89}, "0.8900 are identical, fewer than 0.9"),
        ({"difference": 0.02}, "differ by 0.020000, more than 0.01"),
        ({"difference": math.nan}, "differ by nan"),
    ],
)
def test_each_tolerance_is_broken_by_what_is_beyond_it(changes, words):
    (broken,) = find_broken(result(**changes), result(), LIMITS)
    assert broken.startswith("x, beam: ")
    assert words in broken


@pytest.mark.parametrize(
    "changes", [{}, {"bleu": 29.8}, {"bleu": 31.0}, {"identical": 0.9}, {"difference": 0.01}]
)
def test_each_tolerance_holds_up_to_itself(changes):
    assert find_broken(result(**changes), result(), LIMITS) == ()


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (result(0.0, 0.0, 0.0), "BLEU 0.00, chrF 0.00, exact matches 0.00"),
        (result(0.25, 0.2, 0.003), "BLEU 0.25, chrF 0.20, exact matches 0.30"),
    ],
)
def test_scores_of_zero_prove_nothing_of_a_quantised_export(own, words):
    zero = result(0.0, 0.0, 0.0)
    (broken,) = find_broken(zero, own, BLEU_ALONE)
    assert words in broken
    assert find_broken(zero, own, {**BLEU_ALONE, "min_identical": 0.9}) == ()


def test_chrf_and_exact_matches_decide_where_references_are_too_short_for_bleu():
    own = result(0.0, 80.0, 0.75)
    assert find_broken(result(0.0, 79.8, 0.748), own, BLEU_ALONE) == ()
    broken = find_broken(result(0.0, 79.0, 0.74), own, BLEU_ALONE)
    assert [line.split(" are lost")[0] for line in broken] == [
        "x, beam: 1.00 chrF",
        "x, beam: 1.00 exact matches",
    ]
    (broken,) = find_broken(result(0.0, math.nan, 0.75), own, BLEU_ALONE)
    assert "chrF" in broken


def test_bleu_alone_decides_where_there_is_one():
    assert find_broken(result(30.0, 70.0, 0.1), result(30.0, 80.0, 0.2), BLEU_ALONE) == ()


def test_numbers_of_no_example_prove_nothing():
    other = result(identical=0.0, difference=math.nan)
    limits = {"max_score_difference": 0.01, "max_bleu_drop": 0.3}
    (broken,) = find_broken(other, result(), limits)
    assert "no numbers" in broken
    assert find_broken(other, result(), {**limits, "min_identical": 0.0}) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_identical", 2.0), ("max_score_difference", math.nan), ("max_bleu_drop", -1.0)],
)
def test_a_tolerance_outside_its_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} .*{value}"):
        Tolerances(**{name: value})


@pytest.fixture
def exact(translator):
    """The description of an export in float32."""
    return translator.describe(("serving_default",))


@pytest.mark.parametrize("change", [{"quantization": "dynamic_int8"}, {"shortlist": 9}])
def test_an_inexact_export_is_held_to_what_is_stated_and_to_bleu_alone(change, exact):
    inexact = dataclasses.replace(exact, **change)
    assert Tolerances().of(exact).keys() == LIMITS.keys()
    assert Tolerances().of(inexact) == BLEU_ALONE
    assert Tolerances(min_identical=0.8).of(inexact) == {**BLEU_ALONE, "min_identical": 0.8}


def test_an_export_of_which_nothing_is_demanded_is_refused(exact):
    inexact = dataclasses.replace(exact, shortlist=9)
    with pytest.raises(InputError, match=r"m .*shortlist.*--reference, --min-identical"):
        check_demands("m", inexact, Tolerances(), scorable=True)
    check_demands("m", inexact, Tolerances(max_score_difference=0.1))
    check_demands("m", exact, Tolerances())
