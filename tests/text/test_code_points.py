"""Texts as numbers in a graph, in TensorFlow and LiteRT."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.text.code_points import (
    REPLACEMENT,
    row_ids,
    slice_texts,
    to_bytes,
    to_code_points,
    to_texts,
)


class _Graph(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def run(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        text_bytes = to_bytes(texts)
        found = to_code_points(text_bytes)
        ends = tf.concat([found.starts[1:], tf.shape(text_bytes.flat_values)], axis=0)
        first = tf.gather(text_bytes.row_splits, row_ids(found.row_splits))

        def of_rows(places: tf.Tensor) -> tf.RaggedTensor:
            return tf.RaggedTensor.from_row_splits(places - first, found.row_splits)

        return {
            "points": found.points,
            "row_splits": found.row_splits,
            "texts": to_texts(text_bytes),
            "characters": slice_texts(texts, of_rows(found.starts), of_rows(ends)),
        }


_Run = Callable[[list[bytes]], dict[str, list[Any]]]


@pytest.fixture(scope="module", params=["TensorFlow", "LiteRT"])
def run(request: pytest.FixtureRequest) -> _Run:
    graph = _Graph()
    if request.param == "TensorFlow":

        def run_graph(texts: list[bytes]) -> dict[str, list[Any]]:
            outputs = graph.run(tf.constant(texts, tf.string))
            return {name: values.numpy().tolist() for name, values in outputs.items()}

        return run_graph
    function = graph.run.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], graph)
    converter.allow_custom_ops = True
    runner = InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    ).get_signature_runner()

    def run_lite(texts: list[bytes]) -> dict[str, list[Any]]:
        outputs = runner(texts=np.array(texts, dtype=object))
        return {name: values.tolist() for name, values in outputs.items()}

    return run_lite


_LENGTHS = (0, 1, 3, 127, 128, 129, 400, 16_385)


def test_characters_are_those_of_python(run: _Run) -> None:
    rng = np.random.default_rng(1)
    kinds = [(0, 128), (128, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    for count in (1, 2, 7):
        lines = [
            "".join(chr(rng.integers(*kinds[rng.integers(5)])) for _ in range(rng.choice(_LENGTHS)))
            for _ in range(count)
        ]
        found = run([line.encode() for line in lines])
        assert found["points"] == [ord(character) for line in lines for character in line]
        assert found["row_splits"] == np.cumsum([0, *map(len, lines)]).tolist()
        assert found["characters"] == [c.encode() for line in lines for c in line]


def test_any_bytes_come_back(run: _Run) -> None:
    rng = np.random.default_rng(2)
    for count in (1, 2, 7):
        texts = [rng.integers(0, 256, rng.choice(_LENGTHS)).astype(np.uint8) for _ in range(count)]
        found = run([text.tobytes() for text in texts])
        assert found["texts"] == [text.tobytes() for text in texts]
        assert b"".join(found["characters"]) == b"".join(text.tobytes() for text in texts)


def test_bytes_that_are_not_utf_8_are_replacements(run: _Run) -> None:
    found = run([b"a\xffb", b"\x80", b"\xe2\x82", b"\xc0\x80", b"\xf5\x80\x80\x80"])
    assert found["points"] == [ord("a"), REPLACEMENT, ord("b"), *[REPLACEMENT] * 4]


def test_empty_texts_and_no_text(run: _Run) -> None:
    assert run([b"", b""])["texts"] == [b"", b""]
    assert run([b"", b""])["points"] == []
