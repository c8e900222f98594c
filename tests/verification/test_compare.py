"""Outputs are compared by content; n-best lists entry by entry."""

import math

import numpy as np
import pytest

from ktransformer.verification.compare import Comparison, Difference

FILLS = {"piece": "probability"}
TEXTS = {"text": "score"}


def outputs(name: str, number: str, *choices: tuple[str, float]) -> dict[str, np.ndarray]:
    """Outputs for one example with a list of choices."""
    contents, numbers = zip(*choices, strict=True)
    return {name: np.array([[c.encode() for c in contents]], object), number: np.array([numbers])}


def fills(*choices: tuple[str, float]) -> dict[str, np.ndarray]:
    return outputs("piece", "probability", *choices)


@pytest.mark.parametrize(
    ("pieces", "agreement", "difference"),
    [
        ([("b", 0.4), ("a", 0.4001), ("c", 0.1)], 1, 0.0001),
        ([("c", 0.1), ("b", 0.4), ("a", 0.4001)], 1, 0.3001),  # The best does not come first.
        ([("a", 0.4), ("b", 0.1), ("c", 0.4)], 1, 0.3),
        ([("a", 0.4001), ("x", 0.4), ("c", 0.1)], 0, math.nan),
    ],
)
def test_choices_are_compared_by_what_they_say(pieces, agreement, difference):
    comparison = Comparison(FILLS)
    comparison.add({0: "x"}, fills(("a", 0.4001), ("b", 0.4), ("c", 0.1)), fills(*pieces))
    assert comparison.agreement == [agreement]
    assert comparison.difference == pytest.approx(difference, nan_ok=True)


def n_best(*choices: tuple[str, float]) -> Comparison:
    """Compares three translations of an export with those of its model."""
    comparison = Comparison(TEXTS, tie=0.001)
    expected = outputs("text", "score", ("a", -1.0), ("b", -1.0004), ("c", -2.0))
    comparison.add({0: "x"}, expected, outputs("text", "score", *choices))
    return comparison


def test_equally_good_translations_may_swap_places():
    found = n_best(("b", -1.0004), ("a", -1.0), ("c", -2.0))
    assert (found.agreement, found.difference) == ([1.0], 0.0)


def test_a_translation_at_the_end_may_give_way_to_one_as_good():
    assert n_best(("a", -1.0), ("b", -1.0004), ("d", -2.0005)).agreement == [1.0]
    assert n_best(("a", -1.0), ("b", -1.0004), ("d", -2.1)).agreement == [pytest.approx(2 / 3)]


def test_another_translation_with_the_right_score_is_found_out():
    assert n_best(("a", -1.0), ("x", -1.0004), ("c", -2.0)).agreement == [pytest.approx(2 / 3)]


@pytest.mark.parametrize(("score", "difference"), [(-1.5, 0.4996), (math.nan, math.nan)])
def test_another_score_of_a_translation_is_found_out(score, difference):
    found = n_best(("a", -1.0), ("b", score), ("c", -2.0))
    assert found.difference == pytest.approx(difference, nan_ok=True)


def lines(*translations: tuple[str, float]) -> dict[str, np.ndarray]:
    """Outputs for several examples, each with its best translation."""
    texts, scores = zip(*translations, strict=True)
    return {"text": np.array([t.encode() for t in texts], object), "score": np.array(scores)}


def test_numbers_are_compared_where_the_choices_agree_alone():
    comparison = Comparison(TEXTS)
    comparison.add(
        {0: "A", 4: "B", 2: "C"},
        lines(("a", -1.0), ("b", -2.0), ("c", -3.0)),
        lines(("a", -1.25), ("x", -9.0), ("c", -3.0)),
    )
    assert comparison.agreement == [1, 0, 1]
    assert comparison.difference == 0.25
    assert comparison.differences == [Difference(5, "B", "b", "x", -2.0, -9.0)]


def test_a_score_that_is_no_number_is_seen():
    comparison = Comparison(TEXTS)
    found = lines(("a", 1.0), ("a", math.nan))
    comparison.add(dict(enumerate("AB")), lines(("a", 1.0), ("a", 1.0)), found)
    assert math.isnan(comparison.difference)


@pytest.mark.parametrize("pad_id", [0, 7])
def test_ids_may_be_padded_to_another_length(pad_id):
    comparison = Comparison({"ids": "score"}, pad_id=pad_id)
    expected = {"ids": np.array([[4, 3]]), "score": np.array([-1.0])}
    padded = {"ids": np.array([[4, 3, pad_id, pad_id]]), "score": np.array([-1.0])}
    comparison.add({0: "x"}, expected, padded)
    assert comparison.agreement == [1]


@pytest.mark.parametrize(("optional", "agreement"), [(frozenset({"label"}), 1), (frozenset(), 0)])
def test_an_output_that_an_export_lacks_must_be_optional(optional, agreement):
    comparison = Comparison({"class": "probability", "label": "probability"}, optional)
    outputs = {"class": np.array([1]), "probability": np.array([0.5])}
    comparison.add({0: "x"}, {**outputs, "label": np.array([b"cat"], object)}, outputs)
    assert comparison.agreement == [agreement]


def test_what_is_neither_a_choice_nor_a_number_must_be_equal():
    comparison = Comparison({})
    comparison.add(dict(enumerate("AB")), {"n": np.array([1, 2])}, {"n": np.array([1, 3])})
    assert comparison.agreement == [1, 0]
