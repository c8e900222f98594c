"""Phrases that are found in texts, in TensorFlow and LiteRT."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.text.code_points import to_bytes, to_code_points
from ktransformer.text.phrases import find_phrases

_TEXTS = tf.TensorSpec([None], tf.string)


class _Graph(tf.Module):
    @tf.function(input_signature=[_TEXTS, _TEXTS], autograph=False)
    def run(self, texts: tf.Tensor, phrases: tf.Tensor) -> dict[str, tf.Tensor]:
        points = (to_code_points(to_bytes(each)) for each in (texts, phrases))
        return {"found": find_phrases(*points)}


_Find = Callable[[list[str], list[str]], list[list[str]]]


@pytest.fixture(scope="module", params=["TensorFlow", "LiteRT"])
def find(request: pytest.FixtureRequest) -> _Find:
    graph = _Graph()
    if request.param == "TensorFlow":

        def run(texts: np.ndarray, phrases: np.ndarray) -> np.ndarray:
            return graph.run(tf.constant(texts, tf.string), tf.constant(phrases))["found"].numpy()

    else:
        function = graph.run.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], graph)
        converter.allow_custom_ops = True
        runner = InterpreterWithCustomOps(
            model_content=converter.convert(),
            custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
        ).get_signature_runner()

        def run(texts: np.ndarray, phrases: np.ndarray) -> np.ndarray:
            return runner(texts=texts, phrases=phrases)["found"]

    def find_all(texts: list[str], phrases: list[str]) -> list[list[str]]:
        encoded = [
            np.array([each.encode() for each in texts], object) for texts in (texts, phrases)
        ]
        return [[phrases[j] for j in np.flatnonzero(row)] for row in run(*encoded)]

    return find_all


def test_whole_words_are_found(find: _Find) -> None:
    phrases = ["dog", "hot dog", "C++", "caf\u00e9", "3"]
    assert find(
        ["a dog.", "dogs", "hot dog", "bulldog", "in C++!", "cafe\u0301", "33", "(3)", ""], phrases
    ) == [["dog"], [], ["hot dog"], [], ["C++"], [], [], ["3"], []]


def test_the_first_letter_of_a_text_may_be_a_capital(find: _Find) -> None:
    texts = ["Dog and dog", "A Dog", "\u00c4pfel", "dog", "DOG"]
    assert find(texts, ["dog", "\u00e4pfel"]) == [["dog"], [], ["\u00e4pfel"], ["dog"], []]
    assert find(["Dog"], ["dog", "Dog"]) == [["Dog"]]


def test_of_phrases_that_overlap_the_longest_counts(find: _Find) -> None:
    phrases = ["a b", "b c d", "d e", "a", "e", "b"]
    assert find(["a b c d e"], phrases) == [["b c d", "a", "e"]]
    assert find(["a b c d e", "a b b"], phrases) == [["b c d", "a", "e"], ["a b", "b"]]
    assert find(["x y x"], ["x y", "y x"]) == [["x y"]]
    assert find(["x"], ["x", "x"])[0] == ["x"]


def test_scripts_without_spaces_have_no_words(find: _Find) -> None:
    assert find(["\u72ac\u304c\u8d70\u308b", "my\u72ac"], ["\u72ac", "\u8d70\u308b"]) == [
        ["\u72ac", "\u8d70\u308b"],
        ["\u72ac"],
    ]


def test_an_empty_phrase_is_nowhere(find: _Find) -> None:
    assert find(["a b", "", " "], [""]) == [[], [], []]
    assert find([""], ["", "a"]) == [[]]
