"""Documents: translated sentence by sentence, with all that is between the sentences kept."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.engines import ModelEngine, load_engine
from ktransformer.engines.documents import translate_in_place
from ktransformer.errors import InputError
from ktransformer.exporting.saved_model.export import _of_texts
from ktransformer.tasks.document_outputs import (
    by_document,
    by_sentence,
    encode_documents,
    slices_of,
    split_lines,
)
from ktransformer.tasks.documents import translate_documents
from ktransformer.text.code_points import to_bytes
from tests.small_run import number_pairs
from tests.tasks.check_documents import count_equal
from tests.tasks.random_documents import random_documents


@pytest.fixture(scope="module", params=["run", "SavedModel", "tflite"])
def engine(request):
    """The small run in each form."""
    if request.param == "run":
        return ModelEngine(request.getfixturevalue("translator"))
    name = "saved_model" if request.param == "SavedModel" else "lite_file"
    return load_engine(request.getfixturevalue(name))


def units(translator, text: str) -> list[str]:
    """The sentences, and parts of sentences, that are translated by themselves."""
    documents = encode_documents([text])
    found = translator.find_sentences(documents, 0, 1)
    return [unit.decode() for unit in slices_of(documents, found, "source")]


def test_a_document_is_translated_as_its_sentences_are(engine):
    sentences = [source + "." * (i % 2) for i, (source, _) in enumerate(number_pairs(30, seed=7))]
    documents = random_documents(sentences, 20, seed=1, most=12)
    assert count_equal(engine, sentences, documents) == (20, [])


def test_sentences_are_put_into_their_places_as_the_signature_does(engine):
    sentences = [source + "." * (i % 2) for i, (source, _) in enumerate(number_pairs(30, seed=7))]
    drawn = [each.join(sentences) for each in random_documents(sentences, 20, seed=3, most=12)]
    odd = [
        b"",
        b" \n",
        b"\0one\xff\x80 two\x07 \r\n",
        "one, two " * 40,
        "7\u0301" * 40,
        " three. Four!",
    ]
    documents = encode_documents([*drawn, *odd])
    expected = engine.run("document", documents)
    found = translate_in_place(
        documents, engine.find_sentences(documents), lambda batch: engine.translate_n_best(batch)
    )
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
    for name in expected.keys() - {"scores"}:
        assert found[name].tolist() == expected[name].tolist(), name


@pytest.mark.parametrize(
    "text",
    [b"", b" \t\r\n \n", b"\0\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n\xe2\x82\n", "\u3000".encode()],
)
def test_a_document_without_a_sentence_comes_back(engine, text):
    (found,) = engine.translate_document([text])
    assert (found.text.encode(errors="surrogateescape"), found.sentences) == (text, [])


def identity(limit: int):
    """A graph that translates documents with a model that changes nothing; a byte is a token."""

    def count(texts: tf.Tensor) -> tf.Tensor:
        return to_bytes(texts).row_lengths() + 1

    def translate(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = count(texts)
        score = tf.cast(tokens, tf.float32)
        return {"text": texts, "score": score, "truncated": tokens > limit}

    return tf.function(
        lambda texts: translate_documents(
            texts, translate, count, max_tokens=limit, least_tokens=1
        ),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def test_a_model_that_changes_nothing_gives_any_bytes_back():
    rng, run = np.random.default_rng(1), identity(20)
    parts = [b"a", b"B", b". ", b", ", b" ", b"\n", b"\r", b"\0", b"\xff", b"\xe3\x80\x82", b"9"]
    for size in (0, 1, 30, 300, 3000):
        documents = [b"".join(parts[i] for i in rng.integers(len(parts), size=size)) for _ in "abc"]
        found = run(tf.constant(documents))
        assert found["text"].numpy().tolist() == documents
        assert found["scores"].numpy().max(initial=0) <= 20
        assert not found["truncated"].numpy().any()


@pytest.mark.long
def test_ten_megabytes_of_one_line_come_back():
    document = b"one two, three " * 200_000 + b"four" * 1_750_000
    found = identity(100_000)(tf.constant([document]))
    assert found["text"].numpy()[0] == document
    assert found["broken"].numpy().all()
    assert len(found["scores"]) > 100


def test_no_documents_give_none(engine):
    assert engine.translate_document([]) == []


def test_what_no_model_reads_stays_at_its_place(engine):
    (found,) = engine.translate_document([b"\xef\xbb\xbfone two\0three\xff\x80 four\x07"])
    one, three, four = engine.translate(["one two", "three", "four"])
    assert found.text == f"\ufeff{one}\0{three}\udcff\udc80 {four}\x07"


def test_the_sentences_of_a_document_are_found_by_their_bytes(engine):
    text = "é one two.\r\n  three"
    (found,) = engine.translate_document([text])
    for sentence in found.sentences:
        for start, part, whole in (
            (sentence.source_start, sentence.source, text),
            (sentence.target_start, sentence.text, found.text),
        ):
            assert whole.encode()[start:].startswith(part.encode())
    assert [each.source for each in found.sentences] == ["é one two.", "three"]
    assert found.text == "\r\n  ".join(each.text for each in found.sentences)


def test_a_sentence_that_is_too_long_is_broken_and_not_cut(engine):
    words = ["one", "two", "three", "four"] * 20  # 80 tokens; the model reads 23.
    (found,) = engine.translate_document([" ".join(words) + "\nfive"])
    *parts, last = found.sentences
    assert " ".join(each.source for each in parts).split() == words
    assert all(each.broken for each in parts)
    assert (last.source, last.broken) == ("five", False)
    assert found.text == " ".join(each.text for each in parts) + "\n" + last.text
    assert not found.truncated
    assert engine.translate([each.source for each in parts]) == [each.text for each in parts]


def test_long_sentences_are_broken_at_clauses_first(translator):
    clauses = [
        "one two three four five six,",
        "seven eight nine " * 4 + "zero;",
        "one two \u2013 three",
    ]
    text = " ".join(clauses)
    assert units(translator, text)[0] == clauses[0]
    assert units(translator, "one two\uff0c" * 20) == ["one two\uff0c" * 5] * 4
    assert units(translator, "one 1,000 " * 12)[0].endswith("1,000")


def test_long_words_are_broken_anywhere_but_in_a_character(translator):
    text = "7\u0301" * 40
    found = units(translator, text)
    assert "".join(found) == text
    assert len(found) > 1
    assert all(unit.startswith("7") for unit in found)


def test_a_stream_gives_the_document_sentence_by_sentence(translator):
    text = b"one two. three four!\r\n\r\n \xff five\n" * 3 + b"\t"
    pieces = [*translator.stream(text)]
    (whole,) = translator.translate_document([text])["text"].numpy()
    assert len(pieces) == 11  # Nine sentences, the end of their last line, and the line behind it.
    assert "".join(pieces).encode(errors="surrogateescape") == whole


def test_pieces_are_whole_lines():
    text = b"one\ntwo\n\nthree four five\nsix"
    assert [*split_lines(text, 8)] == [b"one\ntwo\n", b"\n", b"three four five\n", b"six"]


def test_the_document_signature_has_no_fixed_batch_size(translator):
    with pytest.raises(InputError, match="batch_size=2"):
        translator.lite_signature("document", 2)


def test_requests_of_documents_are_not_joined(translator):
    names = _of_texts(translator, translator.saved_model_signatures())
    assert "serving_default" in names
    assert "document" not in names


def test_outputs_of_documents_are_regrouped():
    outputs = {
        "text": np.array([b"<AB CD", b" ", b"E"], dtype=object),
        "truncated": np.array([False, True, False]),
        "source_starts": np.array([0, 4, 0]),
        "source_ends": np.array([3, 8, 1]),
        "target_starts": np.array([1, 4, 0]),
        "target_ends": np.array([3, 6, 1]),
        "scores": np.array([-1.0, -2.0, -4.0], np.float32),
        "broken": np.array([True, True, False]),
        "row_splits": np.array([0, 2, 2, 3]),
    }
    sentences, documents = by_sentence(outputs), by_document(outputs)
    assert sentences["text"].tolist() == [b"AB", b"CD", b"E"]
    assert sentences["kept"].tolist() == documents["kept"].tolist() == [b"< ", b" ", b""]
    assert documents["score"].tolist() == [-3.0, 0.0, -4.0]
    assert all(len(values) == 3 for values in documents.values())


def test_a_translator_with_a_beam_finds_choices_for_documents(translator):
    inputs = {"texts": tf.constant(["one two. three"])}
    wider = translator.search_wider("document", inputs)
    best = by_sentence(
        {name: each.numpy() for name, each in translator.translate_document(**inputs).items()}
    )
    assert wider["text"].numpy()[:, 0].tolist() == best["text"].tolist()
