"""Terminologies, in a run, a SavedModel and a .tflite."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.engines import (
    Engine,
    LiteEngine,
    ModelEngine,
    SavedModelEngine,
    TermTranslation,
)
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.tasks import Translator
from ktransformer.verification import verify
from tests.run_command import refusal
from tests.small_translator import drawn_translator, strings, with_decoding

# What the small run would never write: it knows digits alone.
TERMS = {"two": "seven", "four zero": "13", "nine": "nine"}
TEXTS = ["Two four zero one", "", "nine two nine", "one", "one " * 30 + "two"]
FOUND = [2, 0, 2, 0, 1]


@pytest.fixture(scope="module")
def terms_file(translator: Translator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("terms") / "terms.tflite"
    return export_lite(translator, path, signatures=("serving_default", "terms"))


@pytest.fixture(scope="module")
def engines(translator: Translator, tmp_path_factory: pytest.TempPathFactory) -> list[Engine]:
    path = tmp_path_factory.mktemp("terms") / "model"
    names = ("serving_default", "sentences", "terms")
    saved = export_saved_model(translator, path, signatures=names)
    return [ModelEngine(translator), SavedModelEngine(saved)]


def assert_written(translator: Translator) -> None:
    found = translator.translate_with_terms(TEXTS, list(TERMS), list(TERMS.values()))
    assert found["terms_found"].numpy().tolist() == FOUND
    assert found["terms_written"].numpy().tolist() == FOUND
    first, *_, last = strings(found["text"])
    assert re.search(r"\bseven\b", first)
    assert re.search(r"\b13\b", first)
    assert re.search(r"\bseven\b", last)


def test_terms_of_the_source_are_written(translator: Translator) -> None:
    assert_written(translator)


@pytest.mark.long
def test_greedy_search_writes_them_too(translator: Translator) -> None:
    assert_written(with_decoding(translator, beam_size=1))


def test_a_text_without_terms_is_translated_as_ever(translator: Translator) -> None:
    plain = translator.translate_texts(TEXTS)
    for terms in [], ["eight", ""]:
        found = translator.translate_with_terms(TEXTS, terms, terms)
        assert strings(found["text"]) == strings(plain["text"])
        np.testing.assert_allclose(found["score"], plain["score"], atol=1e-5)
        assert not found["terms_found"].numpy().any()


def test_a_term_does_not_change_the_other_texts_of_its_batch(translator: Translator) -> None:
    together = translator.translate_with_terms(TEXTS, list(TERMS), list(TERMS.values()))
    for i, text in enumerate(TEXTS):
        alone = translator.translate_with_terms([text], list(TERMS), list(TERMS.values()))
        assert strings(alone["text"]) == strings(together["text"])[i : i + 1]


def test_a_target_term_that_is_no_text_of_the_tokenizer_is_not_asked_for(
    translator: Translator,
) -> None:
    found = translator.translate_with_terms(["four zero two"], ["two"], ["\u00e9"])
    assert strings(found["text"]) == ["402"]
    assert (found["terms_found"].numpy(), found["terms_written"].numpy()) == ([1], [0])


@pytest.mark.long
def test_the_limit_of_a_text_makes_room_for_its_terms() -> None:
    translator = with_decoding(drawn_translator(), max_length_ratio=0.0, max_length_offset=1)
    term = "three seven one"
    found = translator.translate_with_terms(["one two"], ["two"], [term])
    assert strings(found["text"]) == [term]


def assert_same(expected: list[TermTranslation], found: list[TermTranslation]) -> None:
    assert [each[2:] for each in found] == [each[2:] for each in expected]
    assert [each.text for each in found] == [each.text for each in expected]
    np.testing.assert_allclose(
        [each.scores for each in found], [each.scores for each in expected], atol=1e-4
    )


def test_a_saved_model_writes_the_same(engines: list[Engine]) -> None:
    expected, found = [engine.translate_with_terms(TEXTS, TERMS) for engine in engines]
    assert [each.truncated for each in expected] == [False, False, False, False, True]
    assert_same(expected, found)


@pytest.mark.long
def test_a_tflite_writes_the_same(engines: list[Engine], terms_file: Path) -> None:
    engine = LiteEngine(terms_file)
    for terms in TERMS, {}, {"eight": "two"}:
        assert_same(
            engines[0].translate_with_terms(TEXTS, terms), engine.translate_with_terms(TEXTS, terms)
        )


def test_documents_take_a_terminology(engines: list[Engine]) -> None:
    document = "Two four zero one.\n\n  nine two nine! one"
    expected, found = [engine.translate_document([document], terms=TERMS) for engine in engines]
    assert (found[0].terms_found, found[0].terms_written) == (4, 4)
    assert [each[0] for each in found] == [each[0] for each in expected]


def test_no_terms_are_as_good_as_no_terminology(engines: list[Engine]) -> None:
    for engine in engines:
        found = engine.translate_with_terms(TEXTS, {})
        assert [each.text for each in found] == engine.translate(TEXTS)


@pytest.mark.long
def test_verify_compares_the_signature(
    run_folder: Path, terms_file: Path, data_folder: Path
) -> None:
    report = verify([terms_file], run_folder, data_folder / "test.source", batch_size=8)
    (result,) = [each for each in report.results if each.signature == "terms"]
    assert result.identical == 1


def test_an_export_has_the_signature_on_request(lite_file: Path, saved_model: Path) -> None:
    for engine in LiteEngine(lite_file), SavedModelEngine(saved_model):
        with pytest.raises(InputError, match="terms"):
            engine.translate_with_terms(["one"], TERMS)


def test_a_fixed_batch_has_no_terms(translator: Translator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"terms.*batch_size=2"):
        export_lite(translator, tmp_path / "a.tflite", signatures=["terms"], batch_size=2)


def test_translate_takes_a_terminology(run_folder: Path, translate, tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("two\tseven\r\nfour\tnine\n")
    status, output, _ = translate(
        "one two\n\nnine\nTwo\n", run_folder, "--terms", tmp_path / "terms.tsv"
    )
    assert status == 0
    first, *others, last = output.splitlines()
    assert "seven" in first.split()
    assert others == ["", "9"]
    assert "seven" in last.split()


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"two\tseven\nfour\n", 2, "0 tabs"),
        (b"two\tseven\tsix\n", 1, "2 tabs"),
        (b"two\t \n", 1, "empty"),
        (b"two\tone\nfour\t\xff\n", 2, "UTF-8"),
        (b"two\tone\ntwo\tsix\n", 2, "once.*'two'"),
        (b"two\tone\nfour\tsix \xc3\xa9\n", 2, "know '\u00e9'.*'six \u00e9'"),
        ("two\t\uff11\n".encode(), 1, "otherwise.*'\uff11'"),
        (b"two\tone\n\nsix\tone\n", 2, "0 tabs"),
    ],
)
def test_a_line_that_is_no_pair_of_terms_is_refused(
    content: bytes, line: int, message: str, run_folder: Path, tmp_path: Path, capsys
) -> None:
    path = tmp_path / "terms.tsv"
    path.write_bytes(content)
    error = refusal(capsys, "translate", run_folder, "--terms", path)
    assert re.search(f"terms.tsv, line {line}\\b.*{message}", error)


@pytest.mark.parametrize("terms", [{"a\tb": "one"}, {"two": "a\nb"}, [("two",)], ["two"], [2]])
def test_a_term_that_is_none_is_refused(terms, translator: Translator) -> None:
    with pytest.raises(InputError, match="terms, line 1"):
        ModelEngine(translator).translate_with_terms(["two"], terms)


def test_the_number_of_terms_is_not_that_of_the_texts(translator: Translator) -> None:
    with pytest.raises(InputError, match="target_terms: 1"):
        translator.translate_with_terms(["one"], ["one", "two"], ["six"])
    texts = tf.constant(["one", "two", "six"])
    assert translator.translate_with_terms(texts, ["one"], ["six"])["text"].shape == (3,)
