"""A masked language model with BERT's tokenizer: its folder, its exports and the engines."""

import numpy as np
import pytest
import tensorflow as tf

import ktransformer
from ktransformer import tasks
from ktransformer.engines import open_model
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.models import MaskedLanguageModel
from ktransformer.tasks import MaskFiller, TextGenerator, Translator
from ktransformer.text import WordPieceTokenizer
from ktransformer.verification import verify
from tests.small_models import small_generator

TEXTS = ["Two [MASK] five.", "ONE", "[MASK] [MASK] nine fours", "", "six, seven [mask]"]
WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    ".",
    ",",
    "##s",
    "##x",
]
PIECES = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


@pytest.fixture(scope="module")
def filler():
    tokenizer = WordPieceTokenizer.from_vocabulary(PIECES, lowercase=True, mask=True)
    sizes = {"num_layers": 1, "d_model": 32, "num_heads": 4, "hidden_dim": 64, "max_length": 12}
    return MaskFiller(MaskedLanguageModel(len(PIECES), **sizes), tokenizer, top_k=3)


def test_a_folder_keeps_the_tokenizer_and_its_kind(filler, tmp_path):
    tasks.save(filler, tmp_path / "model")
    loaded = ktransformer.load(tmp_path / "model")
    assert isinstance(loaded.tokenizer, WordPieceTokenizer)
    assert loaded.describe(("embed",)).tokenizer == "wordpiece"
    assert loaded.fill("two [MASK].") == filler.fill("two [MASK].")


@pytest.mark.parametrize("export", [export_saved_model, export_lite])
def test_an_export_fills_as_the_model_and_verifies(filler, export, tmp_path):
    path = export(filler, tmp_path / "model.tflite")
    model = open_model(path)
    assert (model.description.tokenizer, model.description.mask_token) == ("wordpiece", "[MASK]")
    outputs = model.run("serving_default", texts=np.array([t.encode() for t in TEXTS], object))
    expected = filler.fill_texts(tf.constant(TEXTS))
    for name in ("text", "piece", "ids"):
        np.testing.assert_array_equal(outputs[name], expected[name])
    tasks.save(filler, tmp_path / "folder")
    (tmp_path / "texts").write_text("\n".join(filter(None, TEXTS)))
    assert not verify([path], tmp_path / "folder", tmp_path / "texts").broken


def test_the_fill_stands_in_the_normalised_text(filler):
    (fill, *_) = filler.fill("TWO [MASK] five.", top_k=1)
    assert fill.text == f"two {fill.piece} five .".replace(" ##", "")


def test_start_and_end_tokens_are_not_scored(filler):
    scores = filler.score(tf.constant(["", "two", "two fives."]))
    assert scores["tokens"].numpy().tolist() == [0, 1, 4]


def test_a_text_without_the_mask_is_refused_by_its_name(filler):
    with pytest.raises(InputError, match=r"\[MASK\].*<mask>"):
        filler.fill("two <mask>")


def test_a_task_that_writes_text_refuses_a_tokenizer_with_a_start_token(filler, translator):
    match = r"start token.*wordpiece"
    with pytest.raises(InputError, match=match):
        Translator(translator.model, filler.tokenizer)
    with pytest.raises(InputError, match=match):
        Translator(translator.model, translator.tokenizer, target_tokenizer=filler.tokenizer)
    with pytest.raises(InputError, match=match):
        TextGenerator(small_generator().model, filler.tokenizer)
