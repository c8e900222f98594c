"""Sentences of texts, in TensorFlow and LiteRT."""

# ruff: noqa: RUF001

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.text.code_points import to_bytes, to_code_points
from ktransformer.text.sentence_words import LONGEST, hash_word, words_before, words_behind
from ktransformer.text.sentences import find_sentences
from ktransformer.text.several_sentences import SeveralSentences
from tests.text.odd_texts import odd_texts
from tests.text.sentence_cases import sentence_cases

_Split = Callable[[list[str]], list[list[str]]]
_ENGINES = ("TensorFlow", "LiteRT")


class _Graph(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")], autograph=False)
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
        found = graph.run(tf.constant([t.encode() for t in texts], tf.string))
        return _cut(texts, {name: values.numpy() for name, values in found.items()})

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
    def visible(text: str) -> str:
        return "".join(c for c in text if not c.isspace() and c not in "\u200b\ufeff")

    texts = odd_texts(300)
    found = engines["TensorFlow"](texts)
    assert [visible("".join(each)) for each in found] == [visible(text) for text in texts]


def test_litert_splits_the_hard_cases_as_tensorflow_does(engines: dict[str, _Split]) -> None:
    texts = [case.text for case in sentence_cases()]
    assert engines["LiteRT"](texts) == engines["TensorFlow"](texts)


def test_nearly_all_hard_cases_are_right(split: _Split) -> None:
    cases = sentence_cases()
    found = split([case.text for case in cases])
    wrong = [case.text for case, each in zip(cases, found, strict=True) if each != case.sentences]
    assert len(cases) - len(wrong) >= 390, wrong


def test_a_text_is_split_alike_alone_and_among_others(engines: dict[str, _Split]) -> None:
    texts = [case.text for case in sentence_cases()][::9]
    split = engines["TensorFlow"]
    assert [split([text])[0] for text in texts] == split(texts)


@pytest.mark.parametrize(
    "text",
    [
        "It is Dr. Who.|She left.",
        "z. B. Berlin.|Am 3. Mai.|Nr. 5 ist da.",
        "J. K. Rowling came.|The U.S. Army left.",
        "It costs 3.5 or 1.000.000.|See www.x.org or a.txt.|Good.",
        "Wait... what?|Oh...|No!",
        "«Да!» — сказал он.|Яблоки и т. д.|Он ушёл.",
        "The end.[12]|He knew.²|In art. 5 it is [3].|So.",
        "“Go!” she said.|(He went.)|Why?!|“So.”|Well.",
    ],
)
def test_a_stop_that_is_no_end_divides_no_sentence(split: _Split, text: str) -> None:
    assert split([text.replace("|", " ")]) == [text.split("|")]


@pytest.mark.parametrize("text", ["你好。|“来吗？”她问。|好！", "नमस्ते।|हाँ।|ठीक", "ما؟|نعم۔|هو"])
def test_wide_stops_need_no_space(split: _Split, text: str) -> None:
    assert split([text.replace("|", "")]) == [text.split("|")]


@pytest.mark.parametrize("words", [words_before(), words_behind()])
def test_no_two_words_have_one_hash(words: dict[str, int]) -> None:
    assert len({hash_word(word) for word in words}) == len(words)
    assert len({hash_word(word[::-1]) for word in words}) == len(words)
    assert max(map(len, words)) <= LONGEST


def test_every_form_that_may_be_a_lone_initial_is_read_as_one(split: _Split) -> None:
    assert split([f"{letter}. Maier kam." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜ"]) == [
        [f"{letter}. Maier kam."] for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜ"
    ]


@pytest.mark.long
@pytest.mark.parametrize("text", ["Dr. Who came at 5 p.m. ", "a. ", "? ", "。", "x", ". "])
def test_a_megabyte_is_split_in_seconds(split: _Split, text: str) -> None:
    text *= 1_000_000 // len(text.encode())
    begun = time.process_time()
    found = split([text])
    assert time.process_time() - begun < 20
    assert "".join(found[0]).replace(" ", "") == text.replace(" ", "")


def test_lines_of_several_sentences_are_counted(engines: dict[str, _Split]) -> None:
    lines = [case.text for case in sentence_cases()] + odd_texts()
    wanted = sum(len(sentences) > 1 for sentences in engines["TensorFlow"](lines))
    counted = SeveralSentences()
    for start in range(0, len(lines), 100):
        counted.add(lines[start : start + 100])
    assert counted.count() == wanted > 200
    counted.add(["One. Two.", "one"])
    assert counted.count() == wanted + 1


def test_long_lines_are_read_at_their_starts_and_few_are_held() -> None:
    counted = SeveralSentences()
    counted.add(["a " * 3000 + ". B c."] + ["One two. Three." + " four" * 1000] * 80)
    assert counted._held < 1 << 18
    assert counted.count() == 80
