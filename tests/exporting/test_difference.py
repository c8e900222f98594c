"""How a model's outputs are held against those of its conversion."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.exporting import difference
from tests.small_models import drawn_images, small_classifier, small_filler

EXACT, ROUGH = 1e-3, 0.25
find_difference = functools.partial(
    difference.find_difference, ranked_by={"text": "score", "ids": "score"}
)


def beam(*hypotheses: tuple[str, float]) -> dict[str, np.ndarray]:
    """Outputs of the signature `beam` for one text."""
    texts, scores = zip(*hypotheses, strict=True)
    return {
        "text": np.array([[text.encode() for text in texts]], object),
        "score": np.array([scores], np.float32),
        "truncated": np.array([False]),
    }


MODEL = beam(("one", -1.0), ("two", -1.0002), ("three", -2.0))


def nothing_else() -> dict[str, np.ndarray]:
    return {}


def test_equally_good_texts_may_swap_places():
    swapped = beam(("two", -1.0001), ("one", -1.0001), ("three", -2.0))
    assert find_difference(MODEL, swapped, EXACT, nothing_else) is None


def test_texts_that_are_not_equally_good_may_not_swap_places():
    swapped = beam(("three", -2.0), ("two", -1.0002), ("one", -1.0))
    assert find_difference(MODEL, swapped, EXACT, nothing_else) == "score"


def test_another_text_with_the_right_score_is_found_out():
    wrong = beam(("one", -1.0), ("zwei", -1.0002), ("three", -2.0))
    assert find_difference(MODEL, wrong, EXACT, nothing_else) == "text"


def test_another_score_of_an_equal_text_is_found_out():
    wrong = beam(("one", -1.0), ("two", -1.3), ("three", -2.0))
    assert find_difference(MODEL, wrong, EXACT, nothing_else) == "score"
    # By place nothing is far off: only the texts tell.
    mixed = beam(("one", -1.0), ("three", -1.0002), ("two", -2.0))
    assert find_difference(MODEL, mixed, EXACT, nothing_else) == "score"


@pytest.mark.parametrize(("score", "wrong"), [(-2.0, None), (-1.5, "text")])
def test_another_text_must_be_as_good_in_the_models_own_wider_search(score, wrong):
    tie = beam(("one", -1.0), ("two", -1.0002), ("four", -2.0001))

    def wider():
        return beam(("one", -1.0), ("two", -1.0002), ("three", -2.0), ("four", score))

    assert find_difference(MODEL, tie, EXACT, wider) == wrong


def test_other_ids_are_compared_without_their_padding():
    model = {"ids": np.array([[5, 3, 0, 0]], np.int32), "score": np.array([-1.0], np.float32)}
    shorter = {**model, "ids": model["ids"][:, :2]}
    assert find_difference(model, shorter, EXACT, nothing_else) is None
    other = {**model, "ids": np.array([[6, 3]], np.int32)}
    assert find_difference(model, other, EXACT, nothing_else) == "ids"


def test_weights_of_few_bits_may_choose_other_texts_but_not_score_equal_ones_otherwise():
    # By place the third scores are far apart.
    other = beam(("two", -1.1), ("one", -1.2), ("four", -3.5))
    assert find_difference(MODEL, other, ROUGH) is None
    wrong = beam(("two", -1.1), ("one", -1.9), ("four", -2.0))
    assert find_difference(MODEL, wrong, ROUGH) == "score"


def test_where_no_text_is_equal_scores_of_few_bits_are_compared_by_place():
    assert find_difference(MODEL, beam(("a", -1.1), ("b", -1.2), ("c", -2.1)), ROUGH) is None
    far = beam(("a", -1.1), ("b", -1.2), ("c", -9.0))
    assert find_difference(MODEL, far, ROUGH) == "score"


@pytest.mark.parametrize("tolerance", [EXACT, ROUGH])
def test_a_score_that_is_no_number_is_found_out(tolerance):
    broken = beam(("one", -1.0), ("two", -1.0002), ("three", np.nan))
    assert find_difference(MODEL, broken, tolerance, nothing_else) == "score"
    assert find_difference(MODEL, broken, tolerance) == "score"


def test_what_is_neither_a_choice_nor_a_number_is_equal():
    cut = {**MODEL, "truncated": np.array([True])}
    assert find_difference(MODEL, cut, ROUGH) == "truncated"


@pytest.mark.long
def test_a_wider_search_holds_the_narrow_one(translator):
    source = translator.to_ids(tf.constant(["four zero two", "nine"]))
    texts = {"texts": tf.constant(["four zero two", "nine"])}
    width = translator.decoding.beam_size
    for name, inputs in (("beam", texts), ("ids", {"source": source})):
        wider = translator.search_wider(name, inputs)
        assert wider["score"].shape == (2, 2 * width + 2)
    narrow = translator.beam(**texts)
    np.testing.assert_allclose(
        translator.search_wider("beam", texts)["score"][:, 0], narrow["score"][:, 0], atol=1e-5
    )


def test_a_wider_search_of_fills_and_classes_has_their_probabilities():
    filler, classifier = small_filler(), small_classifier()
    texts = {"texts": tf.constant(["two <mask> five"])}
    fills, more = filler.fill_texts(**texts), filler.search_wider("serving_default", texts)
    assert more["piece"].shape == (1, 8)
    np.testing.assert_array_equal(more["piece"][:, :3], fills["piece"])
    images = tf.constant(drawn_images(2, 8, 12))
    found = classifier.classify_pixels(images)
    classes = classifier.search_wider("serving_default", {"images": images})
    np.testing.assert_array_equal(classes["class"], [[0, 1, 2]] * 2)
    np.testing.assert_allclose(classes["probability"], found["probabilities"], atol=1e-6)


@pytest.mark.parametrize(
    ("places", "wrong"), [([1, 0], None), ([0, 1], "alignment"), ([1, 3], "alignment")]
)
def test_of_two_weights_that_are_nearly_equal_either_is_the_greatest(places, wrong):
    weights = np.array([[0.5, 0.5002, 0.0], [0.9, 0.1, 0.0]], np.float32)
    model = {"alignment": np.array([1, 0]), "weights": weights}
    other = {"alignment": np.array(places), "weights": weights}
    found = find_difference(model, other, EXACT, argmax_of={"alignment": "weights"})
    assert found == wrong
    assert find_difference(model, {**other, "alignment": np.array([0, 0])}, EXACT) == "alignment"
    tie = {**other, "alignment": np.array([0, 0])}
    assert find_difference(model, tie, EXACT, argmax_of={"alignment": "weights"}) is None
