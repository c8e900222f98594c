"""Sentences of texts, in TensorFlow and LiteRT."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.text.code_points import to_bytes, to_code_points
from ktransformer.text.sentences import find_sentences
from tests.text.odd_texts import odd_texts

_Split = Callable[[list[str]], list[list[str]]]
_ENGINES = ("TensorFlow", "LiteRT")


class _Graph(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def run(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return find_sentences(to_code_points(to_bytes(texts)))._asdict()


def _cut(texts: list[str], found: dict[str, Any]) -> list[list[str]]:
    joined = "".join(texts)
    pieces = [joined[a:b] for a, b in zip(found["starts"], found["ends"], strict=True)]
    splits = found["row_splits"]
    return [pieces[a:b] for a, b in itertools.pairwise(splits)]


@pytest.fixture(scope="module")
def engines() -> dict[str, _Split]:
    graph = _Graph()
    function = graph.run.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], graph)
    converter.allow_custom_ops = True
    runner = InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    ).get_signature_runner()

    def run(texts: list[str]) -> list[list[str]]:
        return _cut(texts, graph.run(tf.constant([t.encode() for t in texts], tf.string)))

    def run_lite(texts: list[str]) -> list[list[str]]:
        return _cut(texts, runner(texts=np.array([t.encode() for t in texts], dtype=object)))

    return {"TensorFlow": run, "LiteRT": run_lite}


@pytest.fixture(scope="module", params=_ENGINES)
def split(request: pytest.FixtureRequest, engines: dict[str, _Split]) -> _Split:
    return engines[request.param]


def test_a_sentence_ends_at_a_stop_before_white_space(split: _Split) -> None:
    assert split(["  Hello there.  How are\tyou? Fine!"]) == [
        ["Hello there.", "How are\tyou?", "Fine!"]
    ]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\v", "\f", "\u2028", "\u2029", "\n \n"])
def test_no_sentence_extends_over_a_line_break(split: _Split, line_break: str) -> None:
    assert split([f"one{line_break}  two {line_break}"]) == [["one", "two"]]


def test_each_text_has_its_own_sentences(split: _Split) -> None:
    texts = ["One. Two.", "", " \n ", "three", "Four. Five."]
    assert split(texts) == [["One.", "Two."], [], [], ["three"], ["Four.", "Five."]]
    assert split([]) == []
    assert split(["", ""]) == [[], []]


def test_litert_splits_odd_texts_as_tensorflow_does(engines: dict[str, _Split]) -> None:
    texts = odd_texts(300)
    texts = [". ".join(texts[i : i + 3]) for i in range(0, len(texts), 3)]
    assert engines["LiteRT"](texts) == engines["TensorFlow"](texts)


def test_nothing_but_white_space_is_outside_of_sentences(engines: dict[str, _Split]) -> None:
    for text in odd_texts(300):
        rest = "".join(engines["TensorFlow"]([text])[0])
        white = "\u200b\ufeff"
        assert [c for c in rest if not c.isspace() and c not in white] == [
            c for c in text if not c.isspace() and c not in white
        ]
