import io

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tensorflow_text
from sentencepiece import sentencepiece_model_pb2

from ktransformer.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, Tokenizer
from tests.text.training_text import (
    ODD_TEXT,
    TRAINING_TEXT,
    nfkc_with_single_spaces,
    texts_of,
    there_and_back,
)


def test_decoding_what_was_encoded_gives_the_normalised_text(tokenizer):
    expected = [nfkc_with_single_spaces(text) for text in TRAINING_TEXT]
    assert there_and_back(tokenizer, TRAINING_TEXT) == expected


def test_a_round_trip_written_by_hand(tokenizer):
    texts = [
        "u\u0308ber",
        "\uff26\uff55\uff4c\uff4c\uff1a\uff11\uff12",
        "ﬁne ﬂoor",
        "  a   b ",
        "a\u00a0b\u3000c",
        "",
        "   ",
    ]
    expected = ["über", "Full:12", "fine floor", "a b", "a b c", "", ""]
    assert there_and_back(tokenizer, texts) == expected


def test_tabs_and_line_ends_become_spaces(tokenizer):
    texts = ["a\tdog", "\ta\r\ndog\n", "a \t\n dog"]
    assert there_and_back(tokenizer, texts) == ["a dog"] * 3


def test_control_characters_and_characters_without_a_width_vanish_or_become_spaces(tokenizer):
    assert there_and_back(tokenizer, ["a\x01d\x07o\x1bg", "a\u200bdog"]) == ["adog", "a dog"]


def test_any_order_of_known_characters_survives(tokenizer):
    characters = sorted(set(nfkc_with_single_spaces("".join(TRAINING_TEXT))))
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(characters, size=30)) for _ in range(50)]
    assert there_and_back(tokenizer, texts) == [nfkc_with_single_spaces(text) for text in texts]


def test_normalize_tells_what_a_round_trip_gives(tokenizer):
    texts = [*TRAINING_TEXT, "", "  ", "a▁b ▁c"]
    assert [tokenizer.normalize(text) for text in texts] == there_and_back(tokenizer, texts)


def test_an_encoded_text_ends_with_the_end_token_and_holds_no_other_special(tokenizer):
    for ids in tokenizer.encode(tf.constant(TRAINING_TEXT)).to_list():
        assert ids[-1] == END_ID
        assert not {PAD_ID, UNKNOWN_ID, START_ID, END_ID} & set(ids[:-1])


def test_an_empty_text_is_the_end_token_alone(tokenizer):
    assert tokenizer.encode(tf.constant(["", "  "])).to_list() == [[END_ID], [END_ID]]


def test_a_character_outside_the_training_text_is_unknown(tokenizer):
    (ids,) = tokenizer.encode(tf.constant(["ж"])).to_list()
    assert UNKNOWN_ID in ids


def test_the_names_of_special_pieces_in_a_text_are_plain_characters(tokenizer):
    (ids,) = tokenizer.encode(tf.constant(["<s> </s> <pad>"])).to_list()
    assert not {PAD_ID, START_ID, END_ID} & set(ids[:-1])


def test_ids_are_int32(tokenizer):
    assert tokenizer.encode(tf.constant(["a dog"])).dtype == tf.int32


def test_the_special_ids_are_padding_unknown_start_end(settings):
    kind = sentencepiece_model_pb2.ModelProto.SentencePiece
    types = [piece.type for piece in settings.pieces[:4]]
    assert types == [kind.CONTROL, kind.UNKNOWN, kind.CONTROL, kind.CONTROL]
    assert (PAD_ID, UNKNOWN_ID, START_ID, END_ID) == (0, 1, 2, 3)


def test_padding_and_the_end_token_leave_no_trace_in_a_text(tokenizer):
    ragged = tokenizer.encode(tf.constant(["a dog", "Two dogs are running."]))
    dense = tf.pad(ragged.to_tensor(default_value=PAD_ID), [[0, 0], [0, 5]])
    assert texts_of(tokenizer.decode(dense)) == ["a dog", "Two dogs are running."]


def test_padding_alone_is_an_empty_text(tokenizer):
    assert texts_of(tokenizer.decode(tf.zeros([2, 4], tf.int32))) == ["", ""]


def test_a_graph_gives_the_same_ids_and_texts(tokenizer):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def graph(texts):
        ids = tokenizer.encode(texts)
        return ids, tokenizer.decode(ids.to_tensor(default_value=PAD_ID))

    ids, texts = graph(tf.constant(TRAINING_TEXT))
    assert ids.to_list() == tokenizer.encode(tf.constant(TRAINING_TEXT)).to_list()
    assert texts_of(texts) == there_and_back(tokenizer, TRAINING_TEXT)


def test_an_empty_batch_works_both_ways(tokenizer):
    ids = tokenizer.encode(tf.constant([], tf.string))
    assert ids.to_list() == []
    assert tokenizer.decode(tf.zeros([0, 3], tf.int32)).shape == (0,)


def test_the_model_has_the_settings_that_litert_needs(settings):
    trainer = settings.trainer_spec
    assert trainer.model_type == sentencepiece_model_pb2.TrainerSpec.UNIGRAM
    assert not trainer.byte_fallback
    assert not trainer.treat_whitespace_as_suffix
    assert settings.normalizer_spec.add_dummy_prefix
    assert settings.normalizer_spec.remove_extra_whitespaces
    assert settings.normalizer_spec.escape_whitespaces
    kinds = {piece.type for piece in settings.pieces}
    assert sentencepiece_model_pb2.ModelProto.SentencePiece.BYTE not in kinds


@pytest.mark.parametrize("texts", [TRAINING_TEXT, ODD_TEXT], ids=["training", "odd"])
def test_the_litert_tokenizer_gives_the_same_ids(tokenizer, texts):
    fast = tensorflow_text.FastSentencepieceTokenizer(tokenizer.model, add_eos=True)
    expected = tokenizer.encode(tf.constant(texts)).to_list()
    assert fast.tokenize(tf.constant(texts)).to_list() == expected


@pytest.mark.parametrize("space", ["\t", "\n", "\r", "\x0b", "\x0c"])
def test_the_litert_tokenizer_gives_the_same_ids_for_a_space_character(tokenizer, space):
    fast = tensorflow_text.FastSentencepieceTokenizer(tokenizer.model, add_eos=True)
    texts = tf.constant([f"a{space}dog"])
    assert fast.tokenize(texts).to_list() == tokenizer.encode(texts).to_list()


@pytest.fixture(scope="module")
def bpe_tokenizer():
    """Another's SentencePiece model, which has no fast form."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXT),
        model_writer=model,
        model_type="bpe",
        vocab_size=100,
        pad_id=PAD_ID,
        unk_id=UNKNOWN_ID,
        bos_id=START_ID,
        eos_id=END_ID,
        minloglevel=2,
    )
    return Tokenizer(model.getvalue())


def test_another_s_model_encodes_in_its_plain_form(bpe_tokenizer):
    assert bpe_tokenizer.lite_obstacle == "its kind is BPE, not UNIGRAM"
    processor = sentencepiece.SentencePieceProcessor(model_proto=bpe_tokenizer.model)
    texts = TRAINING_TEXT[:3]
    expected = [[*processor.encode(text), END_ID] for text in texts]
    assert bpe_tokenizer.encode(tf.constant(texts)).to_list() == expected
    ids, cut = bpe_tokenizer.encode_dense(tf.constant(texts), limit=20)
    assert [row[:19] for row in ids.numpy().tolist()] == [row[:19] for row in expected]
    assert ids[:, 19].numpy().tolist() == [END_ID] * 3
    assert cut.numpy().all()
