"""Documents with what single texts take: a tag, a terminology, options of the search."""

import dataclasses

import numpy as np
import pytest

from ktransformer.config import DecodingConfig
from ktransformer.engines import DocumentTranslation, ModelEngine
from ktransformer.errors import InputError
from ktransformer.serving.translated import translate_texts
from ktransformer.tasks.document_outputs import encode_documents
from tests.small_translator import drawn_translator, with_decoding

LINES = ["one two. three!", "", " four zero two\tnine", "one two three " * 20]
DOCUMENT = "\n\n".join(LINES)
TERMS = {"two": "seven", "four zero": "13"}


@pytest.fixture(scope="module")
def engine(translator):
    """The small run."""
    return ModelEngine(translator)


@pytest.fixture(scope="module")
def tagged():
    """A drawn model that reads at most 12 tokens, and has a tag."""
    decoding = DecodingConfig(beam_size=1)
    return ModelEngine(drawn_translator(decoding, tags=["<x>"], max_length=12))


def check_places(document: str, found: DocumentTranslation, translations: list) -> None:
    """A document must have these translations where its sentences stood."""
    assert [each.text for each in found.sentences] == [each.text for each in translations]
    assert [each.score for each in found.sentences] == pytest.approx(
        [each.scores[0] for each in translations], abs=1e-4
    )
    expected, rest = "", document.encode()
    for sentence in found.sentences:
        before, rest = rest.split(sentence.source.encode(), 1)
        expected += before.decode()
        assert sentence.target_start == len(expected.encode())
        expected += sentence.text
    assert found.text == expected + rest.decode()


def test_the_sentences_of_a_document_take_a_tag(tagged):
    (found,) = tagged.translate_document([DOCUMENT], tag="x")
    sources = [each.source for each in found.sentences]
    translations = tagged.translate_n_best(sources, tag="x")
    check_places(DOCUMENT, found, translations)
    assert not found.truncated
    assert not any(each.truncated for each in translations)
    assert [each.text for each in translations] != tagged.translate(sources)


@pytest.mark.parametrize(
    ("signature", "name", "others", "score"),
    [
        ("serving_default", "texts", {}, "score"),
        ("beam", "texts", {}, "score"),
        ("annotate", "source", {"target": [b"3 4", b""]}, "log_probability"),
        ("score", "source", {"target": [b"3 4", b""]}, "log_probability"),
    ],
)
def test_a_signature_gets_the_tag_before_each_text(tagged, signature, name, others, score):
    fixed = ModelEngine(tagged.translator)
    fixed.set_tag("x")
    plain, with_tag = ([text, b" "] for text in (b"four zero two.", b"<x> four zero two."))
    found = fixed.run_tagged(signature, **{name: plain}, **others)[score]
    expected, untagged = (
        tagged.run_inputs(signature, **{name: texts}, **others)[score]
        for texts in (with_tag, plain)
    )
    np.testing.assert_array_equal(found, expected)  # An empty text has no tag.
    assert (found != untagged).any()


def test_the_signature_of_documents_gets_the_tag_before_each_sentence(tagged):
    fixed = ModelEngine(tagged.translator)
    fixed.set_tag("x")
    document = "four zero two. nine one! seven six."
    found = fixed.run_tagged("document", texts=[document.encode(), b""])
    (expected,) = tagged.translate_document([document], tag="x")
    assert found.keys() == tagged.run_inputs("document", texts=[b"a"]).keys()
    assert found["text"].tolist() == [expected.text.encode(), b""]
    assert found["scores"].tolist() == [each.score for each in expected.sentences]
    assert found["row_splits"].tolist() == [0, 3, 3]


def test_ids_and_the_places_of_sentences_get_no_tag(tagged):
    fixed = ModelEngine(tagged.translator)
    fixed.set_tag("x")
    numbers = {"reserved": np.int32(1), "copied": np.int32(1)}
    for signature, inputs in (
        ("ids", {"source": np.array([[9, 8, 3]], np.int32)}),
        ("sentences", {"texts": [DOCUMENT.encode()], **numbers}),
    ):
        found = fixed.run_tagged(signature, **inputs)
        for name, expected in tagged.run_inputs(signature, **inputs).items():
            np.testing.assert_array_equal(found[name], expected)


def test_a_tag_leaves_room_for_itself(tagged):
    documents = encode_documents(["one two three four five six seven eight nine " * 9])
    most = tagged.description.max_source_length
    for reserved in 0, 1, 5:
        found = tagged.find_sentences(documents, reserved=reserved)
        assert most - reserved - 3 < found["tokens"].max() <= most - reserved


def test_a_tag_of_the_engine_is_that_of_each_sentence(tagged):
    fixed = ModelEngine(tagged.translator)
    fixed.set_tag("x")
    assert fixed.translate_document([DOCUMENT]) == tagged.translate_document([DOCUMENT], tag="<x>")


def test_with_a_tag_and_no_signature_of_sentences_each_line_is_one(tagged):
    fixed = ModelEngine(tagged.translator)
    names = tuple(name for name in fixed.signatures if name != "sentences")
    fixed.description = dataclasses.replace(fixed.description, signatures=names)
    assert fixed.translates_documents
    fixed.set_tag("x")
    assert not fixed.translates_documents
    lines = ["four zero two. nine one!", "seven six."]
    (found,) = translate_texts(fixed, ["\n".join(lines)])
    assert found.text == "\n".join(tagged.translate(lines, tag="x"))


def test_the_sentences_of_a_document_take_terms(engine):
    (found,) = engine.translate_document([DOCUMENT], terms=TERMS)
    translations = engine.translate_with_terms([each.source for each in found.sentences], TERMS)
    check_places(DOCUMENT, found, translations)
    assert found.terms_found == sum(each.terms_found for each in translations) > 3
    assert found.terms_written == sum(each.terms_written for each in translations) > 3


def test_the_sentences_of_a_document_take_options_of_the_search(engine):
    options = {"min_length": 4, "suppress": ["two", "4"]}
    first, second = engine.translate_document([DOCUMENT, "nine"], **options)
    for document, found in (DOCUMENT, first), ("nine", second):
        sources = [each.source for each in found.sentences]
        check_places(document, found, engine.translate_controlled(sources, **options))
    assert second.text != engine.translate_document(["nine"])[0].text


def test_a_span_that_is_read_as_it_is_counts_as_it_is(translator):
    copying = ModelEngine(with_decoding(translator, copy=("urls",)))
    documents = encode_documents(["one https://one.two/three/four/five/six/seven/eight/nine two"])
    as_copied, as_read = (copying.find_sentences(documents, copied=each) for each in (True, False))
    assert as_copied["broken"].tolist() == [False]
    assert as_read["broken"].all()
    assert as_read["tokens"].max() <= copying.description.max_source_length


def test_tokens_are_counted_as_the_signature_reads_them(engine, tagged, monkeypatch):
    asked = []
    for each in engine, tagged:
        find = each.find_sentences
        monkeypatch.setattr(
            each,
            "find_sentences",
            lambda documents, find=find, **options: (
                asked.append(tuple(options.values())) or find(documents, **options)
            ),
        )
    tagged.translate_document(["nine"], tag="x")
    engine.translate_document(["nine"], terms=TERMS)
    engine.translate_document(["nine"], min_length=1)
    assert asked == [(1, True), (0, False), (0, False)]


@pytest.mark.parametrize(
    "options",
    [{"prefix": "9"}, {"prefix": ["9"]}, {"n_best": 2}, {"alternatives": True}, {"annotate": True}],
)
def test_options_of_a_single_translation_are_refused(engine, options):
    (name,) = options
    with pytest.raises(InputError, match=f"{name} does not go with documents"):
        engine.translate_document([DOCUMENT], **options)


def test_what_does_not_go_together_is_refused(engine):
    with pytest.raises(InputError, match="terms do not go with options"):
        engine.translate_document([DOCUMENT], terms=TERMS, min_length=4)
    with pytest.raises(InputError, match=r"The model has no tags; got tag='x'\."):
        engine.translate_document([DOCUMENT], tag="x")
    with pytest.raises(InputError, match=r"min_length.*-1"):
        engine.translate_document([DOCUMENT], min_length=-1)
    with pytest.raises(TypeError, match="least"):
        engine.translate_document([DOCUMENT], least=4)


def test_a_missing_signature_is_named(translator):
    engine = ModelEngine(translator)
    engine.description = dataclasses.replace(
        engine.description, signatures=("serving_default", "document", "terms")
    )
    engine.translate_document(["nine"])
    with pytest.raises(InputError, match=r"signature sentences.*serving_default, document, terms"):
        engine.translate_document([], terms=TERMS)
