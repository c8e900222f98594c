"""Symbols: texts that are one unbreakable piece, with the same id in every engine."""

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.config import Config, DecodingConfig
from ktransformer.conversion.huggingface import export_huggingface
from ktransformer.errors import InputError
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import END_ID, MASK, PAD_ID, SubwordSampler, Tokenizer
from ktransformer.text.line_limits import LengthBound
from ktransformer.text.piece_model import essential_pieces, select_pieces
from ktransformer.text.unknown_characters import UnknownCharacters
from tests.text.training_text import ODD_TEXT, TRAINING_TEXT, texts_of, there_and_back

SYMBOLS, TAGS = ("<x1>", "<x2>"), ("<2de>", "⟦formal⟧")
TEXTS = [
    "<2de> a dog",
    "<x1>",
    "un<x1>.",
    "<x2><x1> a<x2>b",
    "⟦formal⟧ <2de>\tstreet",
    "<<x1>>",
    "\uff1cx1\uff1e",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TRAINING_TEXT, 130, symbols=SYMBOLS, tags=TAGS)


@pytest.fixture(scope="module")
def masking():
    return Tokenizer.train(TRAINING_TEXT, 130, mask=True, symbols=SYMBOLS, tags=TAGS)


def test_each_symbol_has_one_id_wherever_it_stands(tokenizer):
    one, two, german, formal = (tokenizer.symbols[each] for each in (*SYMBOLS, *TAGS))
    found = tokenizer.encode(tf.constant(TEXTS)).to_list()
    assert [ids[0] for ids in found[:2]] == [german, one]
    assert found[1] == [one, END_ID]
    assert [ids.count(one) for ids in found] == [0, 1, 1, 1, 0, 1, 1]
    assert [ids.count(two) for ids in found] == [0, 0, 0, 2, 0, 0, 0]
    assert found[4][:2] == [formal, german]
    assert [one, two, german, formal] == list(range(one, one + 4))
    assert max(map(max, found)) <= formal == tokenizer.vocabulary_size - 5


def test_a_symbol_is_decoded_with_a_space_before_it(tokenizer):
    assert there_and_back(tokenizer, ["a <x1> dog", "un<x1>.", "<2de> a"]) == [
        "a <x1> dog",
        "un <x1>.",
        "<2de> a",
    ]


def test_a_tag_in_front_is_the_text_s_ids_behind_its_own(tokenizer):
    tagged, plain = tokenizer.encode_lines(["<2de> two dogs", "two dogs"])
    assert tagged.tolist() == [tokenizer.symbols["<2de>"], *plain]


def test_other_text_has_the_ids_that_it_has_without_symbols(tokenizer):
    texts = tf.constant(TRAINING_TEXT + ODD_TEXT)
    plain = Tokenizer.train(TRAINING_TEXT, 122).encode(texts).to_list()
    assert tokenizer.encode(texts).to_list() == plain


def test_the_package_s_tokenizer_agrees_but_for_the_pieces_inside_words(tokenizer):
    package = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    expected = [
        tokenizer.join_symbols(np.array([*ids, END_ID])).tolist()
        for ids in package.encode(TEXTS + TRAINING_TEXT)
    ]
    assert [ids.tolist() for ids in tokenizer.encode_lines(TEXTS + TRAINING_TEXT)] == expected
    assert tokenizer.lite_obstacle is None


def test_litert_gives_symbols_their_ids_and_texts(tokenizer):
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
        def encode(self, texts):
            ids = tokenizer.encode_dense(texts, 100)[0]
            return {"ids": ids, "texts": tokenizer.decode(ids)}

    module = Module()
    module.tokenizer = tokenizer
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.encode.get_concrete_function()], module
    )
    converter.allow_custom_ops = True
    interpreter = InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    )
    found = interpreter.get_signature_runner()(texts=np.array(TEXTS, dtype=object))
    ids = tokenizer.encode_dense(tf.constant(TEXTS), 100)[0]
    np.testing.assert_array_equal(found["ids"], ids.numpy())
    assert [text.decode() for text in found["texts"]] == texts_of(tokenizer.decode(ids))


def test_the_mask_stands_behind_the_other_symbols(masking):
    assert masking.symbols.keys() == {*SYMBOLS, *TAGS}
    assert masking.mask_id == max(masking.symbols.values()) + 1 == masking.vocabulary_size - 6
    (ids,) = masking.encode_lines([f"<x2> {MASK} un{MASK}<x1>"])
    assert ids.tolist().count(masking.mask_id) == 2
    assert {masking.symbols["<x1>"], masking.symbols["<x2>"]} <= {*ids.tolist()}


def test_symbols_are_no_ordinary_ids_and_only_some_may_be_written(tokenizer):
    first = tokenizer.symbols["<x1>"]
    assert tokenizer.ordinary_ids.max() == first - 1
    assert tokenizer.tags == TAGS
    assert tokenizer.unwritten_ids == tuple(range(first + 2, tokenizer.vocabulary_size))


def test_a_saved_tokenizer_still_knows_its_symbols(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = Tokenizer.load(tmp_path / "tokenizer.model")
    assert (loaded.symbols, loaded.tags) == (tokenizer.symbols, TAGS)


def test_a_smaller_vocabulary_keeps_all_symbols(masking):
    smaller = Tokenizer(select_pieces(masking.model, essential_pieces(masking.model)))
    assert smaller.vocabulary_size < masking.vocabulary_size
    assert smaller.symbols.keys() == masking.symbols.keys()
    assert smaller.tags == TAGS
    assert smaller.mask_id == max(smaller.symbols.values()) + 1


def test_characters_that_only_symbols_have_are_unknown_alone(tokenizer):
    assert "⟦" not in tokenizer.characters
    assert "⟦formal⟧ a" not in tokenizer.characters
    counted = UnknownCharacters(tokenizer.characters, tuple(tokenizer.symbols))
    counted.add(["⟦formal⟧ a dog", "⟦ a dog"])
    assert (counted.texts, counted.counts["⟦"]) == (1, 1)


def test_symbols_in_the_training_text_leave_no_pieces():
    lines = [f"<2de> {line}" for line in TRAINING_TEXT * 3]
    found = Tokenizer.train(lines, 130, tags=("<2de>",))
    assert found.model == Tokenizer.train(TRAINING_TEXT * 3, 130, tags=("<2de>",)).model


def test_drawn_segmentations_have_the_symbols_ids(tokenizer):
    lines = ["un<x1> two", "<2de> dogs"]
    sampler = SubwordSampler(tokenizer, lines, alpha=0.1)
    drawn = sampler.sample(np.random.default_rng(0))
    flat = drawn.flat.tolist()
    assert flat.count(tokenizer.symbols["<x1>"]) == flat.count(tokenizer.symbols["<2de>"]) == 1
    assert max(flat) < tokenizer.vocabulary_size - 4
    assert PAD_ID not in flat


def test_a_symbol_counts_as_one_token_at_most_for_the_length_bound():
    line = "<a b c>".replace(" ", "-") * 9
    assert LengthBound(10).excludes(line)
    assert not LengthBound(10, symbols=("<a-b-c>",)).excludes(line)


@pytest.mark.parametrize(
    ("symbols", "rule"),
    [
        (("",), "white space.*''"),
        (("<a b>",), "white space.*'<a b>'"),
        (("a▁",), "white space.*'a▁'"),
        (("½",), "normalisation.*'½'"),
        (("<x>", "<x>"), "distinct.*'<x>'"),
        (("<x>", "a<x>"), "contain.*'<x>'"),
        (("</s>",), "piece.*'</s>'"),
        (("<mask>",), "<mask>"),
        (("x" * 65,), "64.*65"),
    ],
)
def test_what_can_be_no_symbol_is_refused(symbols, rule):
    with pytest.raises(InputError, match=rule):
        Tokenizer.train(TRAINING_TEXT, 150, symbols=symbols)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"symbols": ["<a b>"]}, "symbols.*white space.*<a b>"),
        ({"symbols": "<a>", "tags": "<a>"}, "symbols and tags.*distinct.*<a>"),
    ],
)
def test_settings_that_name_no_symbols_are_refused(settings, rule):
    with pytest.raises(InputError, match=rule):
        Config().replace(settings)


@pytest.fixture(scope="module")
def model(tokenizer):
    """A model whose most probable pieces are those that no search writes, then `<x1>`."""
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 16, "max_length": 12}
    model = Transformer(tokenizer.vocabulary_size, output_bias=True, **sizes)
    model.build()
    likely = np.zeros(tokenizer.vocabulary_size, np.float32)
    likely[tokenizer.symbols["<x1>"]] = 20
    likely[list(tokenizer.unwritten_ids)] = 40
    model.output_bias_weight.assign(likely)
    return model


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_search_writes_symbols_but_no_tags(tokenizer, model, beam_size):
    decoding = DecodingConfig(beam_size=beam_size, max_target_length=4)
    translator = Translator(model, tokenizer, decoding)
    (text,) = texts_of(translator.translate_texts(["<2de> two"])["text"])
    assert text == "<x1> <x1> <x1>"
    assert set(tokenizer.unwritten_ids) <= {*translator.describe(()).special_ids["suppressed"]}


def test_a_hugging_face_folder_takes_no_symbols(tokenizer, model, tmp_path):
    with pytest.raises(InputError, match="symbols"):
        export_huggingface(Translator(model, tokenizer), tmp_path / "folder")


def test_a_tag_and_a_target_language_do_not_go_together(tokenizer, model):
    with pytest.raises(InputError, match=r"tag='2de'.*target_language='por'"):
        Translator(model, tokenizer, DecodingConfig(tag="2de", target_language="por"))
