import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.text import END_ID, PAD_ID, UNKNOWN_ID, Tokenizer
from tests.text.training_text import ODD_TEXT, TRAINING_TEXT, there_and_back


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
