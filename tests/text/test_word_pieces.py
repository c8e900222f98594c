"""The WordPiece tokenizer against stored ids of Hugging Face's BertTokenizer."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.text import Tokenizer, WordPieceTokenizer, load_tokenizer, register_tokenizer
from ktransformer.text.base_tokenizer import BaseTokenizer
from ktransformer.text.bert_characters import PARTS_OF_WORDS, WORDS_OF_THEIR_OWN
from ktransformer.text.bert_normalizer import normalizer_model, normalizing_table

SETTINGS = {
    "uncased": {"lowercase": True},
    "cased": {"lowercase": False},
    "cased_without_accents": {"lowercase": False, "strip_accents": True},
    "uncased_with_accents": {"lowercase": True, "strip_accents": False},
}
# Hugging Face finds them in a text; here they are plain text.
NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SMALL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "two", "dog", "##s", "run", "the", ".", "["]
PAD, UNKNOWN, START, END, MASK, TWO, DOG, S, RUN, THE, DOT, BRACKET = range(12)


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).with_name("parity") / "word_pieces.npz") as file:
        return dict(file)


def texts_in(array):
    return array.tobytes().decode().split("\0")


def ids_in(stored, setting, kind):
    ends = np.cumsum(stored[f"{setting}/{kind}/lengths"])
    return [each.tolist() for each in np.split(stored[f"{setting}/{kind}/ids"], ends[:-1])]


def make(stored, setting, **options):
    vocabulary = texts_in(stored["vocabulary"])
    return WordPieceTokenizer.from_vocabulary(vocabulary, **SETTINGS[setting], **options)


@pytest.fixture(scope="module")
def uncased(stored):
    return make(stored, "uncased", mask=True)


@pytest.fixture(scope="module")
def small():
    return WordPieceTokenizer.from_vocabulary(SMALL, lowercase=True, mask=True)


@pytest.mark.parametrize("setting", SETTINGS)
def test_sentences_in_thirty_languages_have_the_ids_of_hugging_face(stored, setting):
    lines, expected = texts_in(stored["plain"]), ids_in(stored, setting, "plain")
    ids = [each.tolist() for each in make(stored, setting).encode_lines(lines)]
    assert ids == expected


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_character_is_normalised_as_by_hugging_face(stored, setting):
    options = SETTINGS[setting]
    strip_accents = options.get("strip_accents", options["lowercase"])
    table = normalizing_table(lowercase=options["lowercase"], strip_accents=strip_accents)
    normalizer = tensorflow_text.FastBertNormalizer(
        model_buffer=tf.constant(normalizer_model(table))
    )
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    normal = [text.decode() for text in normalizer.normalize(tf.constant(characters)).numpy()]
    for point in PARTS_OF_WORDS | WORDS_OF_THEIR_OWN:  # Changed for FastWordpieceTokenizer.
        normal[point if point < 0xD800 else point - 0x800] = chr(point)
    digest = hashlib.sha256("\n".join(normal).encode()).digest()
    assert digest == stored[f"{setting}/digest"].tobytes()


@pytest.mark.parametrize("setting", SETTINGS)
def test_odd_lines_have_the_ids_of_hugging_face_but_for_special_names(stored, setting):
    lines, expected = texts_in(stored["odd"]), ids_in(stored, setting, "odd")
    found = make(stored, setting, mask=True).encode_lines(lines)
    differ = [
        line
        for line, ids, wanted in zip(lines, found, expected, strict=True)
        if ids.tolist() != wanted
    ]
    assert len(lines) == 2000
    assert not [line for line in differ if not any(name in line for name in NAMES)]


def convert(tokenizer, max_length):
    """Returns an interpreter with the signatures encode and decode."""
    module = tf.Module()
    module.tokenizer = tokenizer
    texts, ids = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.int32)
    module.encode = tf.function(
        lambda texts: {"ids": tokenizer.encode_dense(texts, max_length)[0]}, [texts]
    )
    module.decode = tf.function(lambda ids: {"texts": tokenizer.decode(ids)}, [ids])
    return module


@pytest.mark.parametrize("mask", [True, pytest.param(False, marks=pytest.mark.long)])
def test_litert_gives_the_same_ids_and_texts(stored, mask, tmp_path):
    tokenizer = make(stored, "uncased", mask=mask)
    module = convert(tokenizer, 40)
    signatures = {"encode": module.encode, "decode": module.decode}
    tf.saved_model.save(module, tmp_path, signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path), signature_keys=["encode", "decode"]
    )
    converter.allow_custom_ops = True
    interpreter = InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    )
    encode, decode = map(interpreter.get_signature_runner, ("encode", "decode"))
    lines = [*texts_in(stored["plain"]), *texts_in(stored["odd"])]
    for size in (1, 97):
        for start in range(0, len(lines) if size > 1 else 40, size):
            texts = np.array([line.encode() for line in lines[start : start + size]], object)
            ids, _ = tokenizer.encode_dense(tf.constant(texts), 40)
            np.testing.assert_array_equal(encode(texts=texts)["ids"], ids)
            expected = tokenizer.decode(ids).numpy().tolist()
            assert decode(ids=ids.numpy())["texts"].tolist() == expected


def test_ids_written_by_hand(small):
    texts = ["Two dogs run.", "", "the cat\tdog", "dogsx run"]
    assert small.encode(tf.constant(texts)).to_list() == [
        [START, TWO, DOG, S, RUN, DOT, END],
        [START, END],
        [START, THE, UNKNOWN, DOG, END],
        [START, UNKNOWN, RUN, END],
    ]


def test_a_text_that_is_too_long_keeps_its_end(small):
    ids, truncated = small.encode_dense(tf.constant(["two dogs run.", "dog"]), 4)
    assert ids.numpy().tolist() == [[START, TWO, DOG, END], [START, DOG, END, PAD]]
    assert truncated.numpy().tolist() == [True, False]


def test_a_mask_is_found_inside_a_text_but_only_as_it_is_written(small):
    texts = ["the [MASK].", "dog[MASK]s", "[mask]", "[ MASK ]", "[[MASK]]", "[MASK\u00a0]"]
    assert small.encode(tf.constant(texts)).to_list() == [
        [START, THE, MASK, DOT, END],
        [START, DOG, MASK, UNKNOWN, END],
        [START, BRACKET, UNKNOWN, UNKNOWN, END],
        [START, BRACKET, UNKNOWN, UNKNOWN, END],
        [START, BRACKET, MASK, UNKNOWN, END],
        [START, BRACKET, UNKNOWN, UNKNOWN, END],
    ]


def test_without_a_mask_its_name_is_plain_text():
    tokenizer = WordPieceTokenizer.from_vocabulary(SMALL, lowercase=True)
    assert tokenizer.special_ids.mask is None
    assert MASK not in tokenizer.encode(tf.constant(["the [MASK]"])).to_list()[0]


def test_a_word_of_a_hundred_characters_is_known_and_a_longer_one_is_not():
    tokenizer = WordPieceTokenizer.from_vocabulary([*SMALL, "ก", "##ก"], lowercase=True)
    words = ["ก" * 100, "ก" * 101, f"dog {'ก' * 500} dog"]
    lengths = [len(ids) for ids in tokenizer.encode(tf.constant(words)).to_list()]
    assert lengths == [102, 3, 5]


def test_decoding_drops_padding_start_and_end_and_joins_pieces(small):
    ids = tf.constant([[START, TWO, DOG, S, MASK, DOT, END, PAD], [PAD] * 8, [S] + [PAD] * 7])
    assert small.decode(ids).numpy().tolist() == [b"two dogs [MASK] .", b"", b"##s"]


def test_normalising_is_what_a_round_trip_gives(uncased, stored):
    lines = [*texts_in(stored["plain"]), "a[MASK]b [MASK].", ""]
    unknown = uncased.special_ids.unknown
    encoded = uncased.encode(tf.constant(lines))
    decoded = uncased.decode(encoded).numpy().tolist()
    known = [i for i, ids in enumerate(encoded.to_list()) if unknown not in ids]
    assert len(known) > 5
    normal = uncased.normalize_lines(lines)
    assert [normal[i] for i in known] == [decoded[i].decode() for i in known]
    assert uncased.normalize("Ein Maß, Über\u00a0dem [MASK]!") == "ein maß , uber dem [MASK] !"


def test_an_empty_batch_works_both_ways(small):
    assert small.encode(tf.constant([], tf.string)).to_list() == []
    assert small.decode(tf.zeros([0, 3], tf.int32)).shape == (0,)


def test_a_saved_tokenizer_loads_as_its_kind(small, tmp_path):
    small.save(tmp_path / "tokenizer.model")
    loaded = load_tokenizer(tmp_path / "tokenizer.model")
    assert isinstance(loaded, WordPieceTokenizer)
    assert (loaded.vocabulary, loaded.sha256) == (SMALL, small.sha256)
    assert loaded.special_ids == small.special_ids


def test_a_sentencepiece_model_loads_as_its_kind(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.model")
    assert isinstance(load_tokenizer(tmp_path / "tokenizer.model"), Tokenizer)


def test_a_registered_kind_of_ones_own_loads(tmp_path):
    @register_tokenizer
    class Letters(BaseTokenizer):
        kind = "letters of a test"

        def __init__(self, model):
            super().__init__(name="letters")
            self.model = model

        encode = decode = normalize_lines = pieces = None

    (tmp_path / "file").write_text('{"kind": "letters of a test"}')
    assert isinstance(load_tokenizer(tmp_path / "file"), Letters)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"kind": "bpe"}', "kind='bpe'.*wordpiece"),
        ('{"kind": "wordpiece", ', "JSON"),
        ('{"kind": "wordpiece"}', "vocabulary"),
        ('{"kind": "wordpiece", "vocabulary": ["a"], "lowercase": 1}', "lowercase"),
    ],
)
def test_a_damaged_file_is_one_sentence(content, match, tmp_path):
    (tmp_path / "tokenizer.model").write_text(content)
    with pytest.raises(InputError, match=match):
        load_tokenizer(tmp_path / "tokenizer.model")


@pytest.mark.parametrize(
    ("pieces", "match"),
    [
        (SMALL[1:], r"\[PAD\]"),
        ([*SMALL, "dog"], "'dog'.*12.*6"),
        ([*SMALL, ""], "''.*12"),
        ([*SMALL, "a\nb"], "number 12"),
        ([*SMALL, "a" * 257], "256"),
        (SMALL[:5], "vocabulary"),
    ],
)
def test_a_vocabulary_with_a_hole_is_one_sentence(pieces, match):
    with pytest.raises(InputError, match=match):
        WordPieceTokenizer.from_vocabulary(pieces, lowercase=True)


def test_ordinary_ids_leave_out_the_five_special_pieces():
    tokenizer = WordPieceTokenizer.from_vocabulary(SMALL, lowercase=True)
    assert tokenizer.ordinary_ids.tolist() == list(range(5, 12))


@pytest.mark.skipif("KTRANSFORMER_VOCAB" not in os.environ, reason="needs a real vocab.txt")
def test_the_real_vocabulary_has_the_ids_of_bert_base_uncased():
    lines = Path(os.environ["KTRANSFORMER_VOCAB"]).read_text(encoding="utf-8").splitlines()
    tokenizer = WordPieceTokenizer.from_vocabulary(lines, lowercase=True)
    ids = tokenizer.encode(tf.constant(["Two dogs are running."])).to_list()
    assert ids == [[101, 2048, 6077, 2024, 2770, 1012, 102]]
