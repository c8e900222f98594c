import base64
import re

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from ktransformer.errors import InputError
from ktransformer.text import UNKNOWN_ID, Tokenizer
from tests.text.training_text import TRAINING_TEXT, nfkc_with_single_spaces


def test_every_digit_is_a_piece_of_its_own_unless_told_otherwise():
    lines = [f"the year {year}" for year in range(1990, 2020)] * 5
    split = Tokenizer.train(lines, 40)
    joined = Tokenizer.train(lines, 40, split_digits=False)
    (split_ids,) = split.encode(tf.constant(["2013"])).to_list()
    (joined_ids,) = joined.encode(tf.constant(["2013"])).to_list()
    assert split.pieces(split_ids[-5:-1]) == ["2", "0", "1", "3"]
    assert len(joined_ids) < len(split_ids)


def test_a_lower_character_coverage_drops_the_rarest_characters():
    lines = ["aaaa bbbb"] * 200 + ["q"]
    (everything,) = Tokenizer.train(lines, 20).encode(tf.constant(["q"])).to_list()
    fewer = Tokenizer.train(lines, 20, character_coverage=0.99)
    (without,) = fewer.encode(tf.constant(["q"])).to_list()
    assert UNKNOWN_ID not in everything
    assert UNKNOWN_ID in without


def test_characters_of_a_very_long_line_are_known():
    tokenizer = Tokenizer.train(["aaaa bbbb"] * 50 + ["zwölf " * 1500], 30)
    (ids,) = tokenizer.encode(tf.constant(["zwölf"])).to_list()
    assert UNKNOWN_ID not in ids


def test_training_twice_gives_the_same_bytes(tokenizer):
    assert Tokenizer.train(TRAINING_TEXT, 120).model == tokenizer.model


def test_a_saved_tokenizer_loads_as_it_was(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = Tokenizer.load(tmp_path / "tokenizer.model")
    assert loaded.model == tokenizer.model
    assert loaded.vocabulary_size == tokenizer.vocabulary_size
    texts = tf.constant(TRAINING_TEXT)
    assert loaded.encode(texts).to_list() == tokenizer.encode(texts).to_list()


def test_the_vocabulary_is_no_larger_than_asked_and_counts_all_ids(tokenizer, settings):
    assert tokenizer.vocabulary_size == len(settings.pieces) <= 120
    assert len(tokenizer.pieces(range(tokenizer.vocabulary_size))) == len(settings.pieces)


def test_more_characters_than_pieces_is_an_input_error_that_says_how_many_it_takes(capfd):
    for mask in (False, True):
        with pytest.raises(InputError, match=r"vocabulary_size=8 .* need (\d+)") as error:
            Tokenizer.train(TRAINING_TEXT, 8, mask=mask)
        assert ".cc" not in str(error.value)
        least = int(re.search(r"need (\d+)", str(error.value))[1])
        assert Tokenizer.train(TRAINING_TEXT, least, mask=mask).vocabulary_size == least
        with pytest.raises(InputError, match=f"need {least}"):
            Tokenizer.train(TRAINING_TEXT, least - 1, mask=mask)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "lines", [[], ["", "  "], ["\u200b", "\u2060"]], ids=["no lines", "only spaces", "invisible"]
)
def test_an_empty_training_text_is_an_input_error(lines, capfd):
    with pytest.raises(InputError, match="No tokenizer of vocabulary_size=50 can be trained on "):
        Tokenizer.train(lines, 50)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("vocabulary_size", 0), ("vocabulary_size", -3), ("character_coverage", 0.5)],
)
def test_a_number_outside_its_range_is_an_input_error_that_names_it(name, value):
    with pytest.raises(InputError, match=f"^{name} .*{value}"):
        Tokenizer.train(TRAINING_TEXT, **{"vocabulary_size": 120, name: value})


def test_a_text_that_sentencepiece_gives_up_on_is_an_input_error_that_names_the_longest_line():
    noise = base64.b64encode(np.random.default_rng(0).bytes(150_000)).decode()
    with pytest.raises(InputError, match=r"longest, line 3 of 302, has 200000 characters") as error:
        Tokenizer.train(["two dogs", "a dog", noise, *["a cat runs"] * 299], 1500)
    assert ".cc" not in str(error.value)


def test_a_model_with_a_line_end_in_a_piece_is_an_input_error_that_names_the_piece(settings):
    broken = sentencepiece_model_pb2.ModelProto.FromString(settings.SerializeToString())
    broken.pieces[50].piece = "a\nb"
    with pytest.raises(InputError, match=r"line end, .*; got 'a\\nb', id 50"):
        Tokenizer(broken.SerializeToString())


def test_the_characters_are_those_of_the_text_without_spaces(tokenizer):
    expected = set("".join(map(nfkc_with_single_spaces, TRAINING_TEXT))) - {" "}
    assert tokenizer.characters == "".join(sorted(expected))


@pytest.mark.parametrize("content", [b"", b"this is a text file\n" * 20, bytes(range(256))])
def test_a_file_that_is_no_sentencepiece_model_is_an_input_error(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(InputError, match="SentencePiece model"):
        Tokenizer.load(tmp_path / "tokenizer.model")


def test_a_model_without_padding_is_an_input_error_that_names_its_special_ids(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXT),
        model_prefix=str(tmp_path / "other"),
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(InputError, match=r"special ids .* start 1, end 2, pad -1, unknown 0"):
        Tokenizer.load(tmp_path / "other.model")
