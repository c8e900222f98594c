import base64
import io
import re
import unicodedata

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps
from sentencepiece import sentencepiece_model_pb2

from ktransformer.errors import InputError
from ktransformer.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, Tokenizer
from tests.text.training_text import TRAINING_TEXT

ODD_TEXT = [
    "",
    " ",
    "   ",
    "a",
    "😀 emoji 中文 in between",
    "unknown at the end ж",
    "жжж",
    "e\u0301\u0301 zero\u200bwidth",
    "a▁b ▁ ▁▁c",
    "<s> </s> <unk> <pad>",
    "Straßenﬁlm" * 20,
    "12 345 6789",
]


def nfkc_with_single_spaces(text):
    return " ".join(part for part in unicodedata.normalize("NFKC", text).split(" ") if part)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TRAINING_TEXT, 120)


@pytest.fixture(scope="module")
def settings(tokenizer):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(tokenizer.model)
    return proto


def texts_of(tensor):
    return [text.decode() for text in tensor.numpy().tolist()]


def there_and_back(tokenizer, texts):
    return texts_of(tokenizer.decode(tokenizer.encode(tf.constant(texts))))


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
    with pytest.raises(InputError, match=rf"{name} must be .*; got {value}"):
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


@pytest.fixture(scope="module")
def masking_tokenizer():
    return Tokenizer.train(TRAINING_TEXT, 120, mask=True)


MASKED_TEXT = [
    "a <mask> dog",
    "<mask>",
    "un<mask>",
    "<mask>.",
    "<mask><mask>",
    "  <mask>   <mask> street",
    "\uff1cmask\uff1e and\t<mask>s",
    "<<mask>>",
]


def test_a_tokenizer_without_a_mask_has_no_mask_id(tokenizer):
    assert tokenizer.mask_id is None
    (ids,) = tokenizer.encode(tf.constant(["<mask>"])).to_list()
    assert UNKNOWN_ID in ids


def test_the_mask_has_one_id_wherever_it_stands(masking_tokenizer):
    mask, ids = masking_tokenizer.mask_id, masking_tokenizer.encode(tf.constant(MASKED_TEXT))
    spelled = [masking_tokenizer.pieces(row[:-1]) for row in ids.to_list()]
    assert spelled[1] == ["▁<mask>"]
    assert spelled[4] == ["▁<mask>", "▁<mask>"]
    assert [piece.count("▁<mask>") for piece in spelled] == [1, 1, 1, 1, 2, 2, 2, 1]
    assert [row.count(mask) for row in ids.to_list()] == [1, 1, 1, 1, 2, 2, 2, 1]
    assert ids.to_list()[3] == [
        mask,
        *masking_tokenizer.encode(tf.constant(["x."])).to_list()[0][-2:],
    ]
    assert max(max(row) for row in ids.to_list()) == mask == masking_tokenizer.vocabulary_size - 2


def test_every_way_to_encode_gives_the_mask_its_one_id(masking_tokenizer):
    expected = masking_tokenizer.encode(tf.constant(MASKED_TEXT)).to_list()
    assert [ids.tolist() for ids in masking_tokenizer.encode_lines(MASKED_TEXT)] == expected
    dense, _ = masking_tokenizer.encode_dense(tf.constant(MASKED_TEXT), 100)
    assert [[i for i in row if i != PAD_ID] for row in dense.numpy().tolist()] == expected


def test_a_mask_is_decoded_as_it_is_written(masking_tokenizer):
    texts = ["a <mask> dog", "<mask>", "two <mask>, young", "un<mask>"]
    assert there_and_back(masking_tokenizer, texts) == [*texts[:3], "un <mask>"]


@pytest.mark.parametrize("texts", [TRAINING_TEXT, ODD_TEXT], ids=["training", "odd"])
def test_other_text_has_the_ids_that_it_has_without_a_mask(masking_tokenizer, texts):
    plain = Tokenizer.train(TRAINING_TEXT, 118).encode(tf.constant(texts)).to_list()
    assert masking_tokenizer.encode(tf.constant(texts)).to_list() == plain
    assert masking_tokenizer.vocabulary_size <= 120


def test_the_plain_the_fast_and_the_package_s_tokenizer_agree_on_masks(masking_tokenizer):
    model, texts = masking_tokenizer.model, [*MASKED_TEXT, *TRAINING_TEXT]
    package = sentencepiece.SentencePieceProcessor(model_proto=model)
    expected = [[*ids, END_ID] for ids in package.encode(texts)]
    for kind in (
        tensorflow_text.SentencepieceTokenizer,
        tensorflow_text.FastSentencepieceTokenizer,
    ):
        assert kind(model, add_eos=True).tokenize(tf.constant(texts)).to_list() == expected
    assert masking_tokenizer.lite_obstacle is None


def test_litert_gives_the_mask_its_id_with_builtin_operations(masking_tokenizer):
    class Encoder(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
        def encode(self, texts):
            return {"ids": masking_tokenizer.encode_dense(texts, 100)[0]}

    module = Encoder()
    module.tokenizer = masking_tokenizer
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.encode.get_concrete_function()], module
    )
    converter.allow_custom_ops = True
    interpreter = InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    )
    texts = np.array(MASKED_TEXT, dtype=object)
    ids = interpreter.get_signature_runner()(texts=texts)["ids"]
    expected = masking_tokenizer.encode_dense(tf.constant(MASKED_TEXT), 100)[0]
    np.testing.assert_array_equal(ids, expected.numpy())


def test_pieces_across_the_ends_of_a_mask_do_not_hide_it():
    lines = ["<b>bold</b> <i>x</i> a<mask>b <mask>"] * 50 + TRAINING_TEXT
    tokenizer = Tokenizer.train(lines, 150, mask=True)
    texts = ["<b><mask></b>", "a<mask>b", "<<mask>i>", "<mask>b>"]
    for ids in tokenizer.encode(tf.constant(texts)).to_list():
        assert ids.count(tokenizer.mask_id) == 1
        assert tokenizer.vocabulary_size - 1 not in ids


def test_a_saved_tokenizer_still_knows_its_mask(masking_tokenizer, tmp_path):
    masking_tokenizer.save(tmp_path / "tokenizer.model")
    assert Tokenizer.load(tmp_path / "tokenizer.model").mask_id == masking_tokenizer.mask_id


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
