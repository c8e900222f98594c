import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.engines import load_engine
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.tasks import MaskFiller
from ktransformer.text import END_ID, PAD_ID, Tokenizer
from tests.layers.layer_checks import array
from tests.small_models import small_filler

TEXTS = ["two <mask> five", "one", "<mask> <mask> nine four", "", "six seven <mask>", "§ <mask>"]
SIGNATURES = {"serving_default": "fill_texts", "embed": "embed", "score": "score"}


@pytest.fixture(scope="module")
def filler():
    return small_filler()


@pytest.fixture(scope="module")
def saved_model(filler, tmp_path_factory):
    return export_saved_model(filler, tmp_path_factory.mktemp("filler") / "model")


@pytest.fixture(scope="module")
def lite_file(filler, tmp_path_factory):
    return export_lite(filler, tmp_path_factory.mktemp("filler") / "model.tflite")


def masked_probabilities(filler, ids, place):
    """The model's distribution over ordinary pieces at one place of ids `[S]`."""
    logits = filler.model({"ids": ids[None], "positions": np.array([[place]])})
    ordinary = array(logits)[0, 0, END_ID + 1 : filler.special_ids.mask].astype("float64")
    weights = np.exp(ordinary - ordinary.max())
    return weights / weights.sum()


def test_the_fills_are_the_most_probable_ordinary_pieces(filler):
    (ids,) = filler.tokenizer.encode_lines(["two <mask> five"])
    (place,) = np.flatnonzero(ids == filler.special_ids.mask)
    probabilities = masked_probabilities(filler, ids, place)
    best = np.argsort(-probabilities)[:3].astype("int32")
    fills = filler.fill("two <mask> five")
    np.testing.assert_allclose([f.probability for f in fills], probabilities[best], rtol=1e-5)
    for fill, piece in zip(fills, best + END_ID + 1, strict=True):
        filled = np.where(ids == filler.special_ids.mask, piece, ids)
        assert fill.text == filler.tokenizer.decode(filled[None])[0].numpy().decode()
        assert fill.piece == filler.tokenizer.decode(np.array([[piece]]))[0].numpy().decode()


def test_any_number_of_fills_can_be_asked_for(filler):
    five = filler.fill("two <mask> five", top_k=5)
    assert len(five) == 5
    assert [fill.piece for fill in five[:3]] == [f.piece for f in filler.fill("two <mask> five")]
    everything = filler.fill("two <mask> five", top_k=filler.special_ids.mask - END_ID - 1)
    assert sum(fill.probability for fill in everything) == pytest.approx(1, abs=1e-5)


def test_of_several_masks_the_first_is_filled(filler):
    for fill in filler.fill("<mask> two <mask>"):
        assert fill.text.endswith("two <mask>")
        assert fill.text.count("<mask>") == 1


def test_a_text_without_a_mask_comes_back(filler):
    outputs = filler.fill_texts(tf.constant(["one  two", ""]))
    assert outputs["text"].numpy().tolist() == [[b"one two"] * 3, [b""] * 3]
    assert outputs["piece"].numpy().tolist() == [[b""] * 3] * 2
    assert not outputs["ids"].numpy().any()
    assert not outputs["probability"].numpy().any()


def test_a_text_is_filled_alike_alone_and_beside_longer_ones(filler):
    together = filler.fill_texts(tf.constant(TEXTS))
    for i, text in enumerate(TEXTS):
        alone = filler.fill_texts(tf.constant([text]))
        assert alone["text"][0].numpy().tolist() == together["text"][i].numpy().tolist()
        np.testing.assert_allclose(alone["probability"][0], together["probability"][i], atol=1e-6)


def test_a_text_that_is_too_long_is_cut_and_says_so(filler):
    long = " ".join(["one"] * 40)
    outputs = filler.fill_texts(tf.constant([f"<mask> {long}", "<mask> one"]))
    assert outputs["truncated"].numpy().tolist() == [True, False]
    with pytest.raises(InputError, match=r"<mask>.*12"):
        filler.fill(f"{long} <mask>")


def test_the_score_adds_up_tokens_predicted_from_all_others(filler):
    (ids,) = filler.tokenizer.encode_lines(["two § five"])
    expected = 0.0
    for place in range(len(ids) - 1):
        masked = ids.copy()
        masked[place] = filler.special_ids.mask
        logits = array(filler.model({"ids": masked[None], "positions": np.array([[place]])}))[0, 0]
        expected += logits[ids[place]] - np.log(np.exp(logits.astype("float64")).sum())
    scores = filler.score(tf.constant(["two § five", "one two three four five"]))
    assert scores["tokens"][0] == len(ids) - 1
    assert scores["log_probability"][0].numpy() == pytest.approx(expected, rel=1e-5)


def test_neither_an_empty_text_nor_a_mask_is_scored(filler):
    scores = filler.score(tf.constant(["", "<mask>", "two <mask>"]))
    assert scores["log_probability"].numpy()[:2].tolist() == [0.0, 0.0]
    alone = filler.tokenizer.encode_lines(["two"])[0]
    assert scores["tokens"].numpy().tolist() == [0, 0, len(alone) - 1]


def test_the_embedding_is_the_mean_over_real_tokens(filler):
    (ids,) = filler.tokenizer.encode_lines(["two five"])
    expected = array(filler.model.encode(ids[None]))[0].mean(axis=0)
    vectors = filler.embed(tf.constant(["two five", "one two three four five six"]))["embedding"]
    np.testing.assert_allclose(vectors[0], expected, atol=1e-5)


def test_what_cannot_be_filled_is_refused(filler):
    without = Tokenizer.train(["one two three four"] * 9, vocabulary_size=20)
    with pytest.raises(InputError, match="mask"):
        MaskFiller(filler.model, without)
    for top_k in (0, 1000):
        with pytest.raises(InputError, match=f"top_k .*1.*top_k={top_k}"):
            MaskFiller(filler.model, filler.tokenizer, top_k)
    with pytest.raises(InputError, match=r"<mask>.*'one'"):
        filler.fill("one")


FRESH = """
import sys
import tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
texts = tf.constant(sys.argv[2:])
print(model.signatures["serving_default"](texts)["text"].numpy().tolist())
assert "ktransformer" not in sys.modules
"""


@pytest.mark.long
def test_the_saved_model_fills_in_a_process_without_ktransformer(filler, saved_model):
    result = subprocess.run(
        [sys.executable, "-c", FRESH, str(saved_model), *TEXTS],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = filler.fill_texts(tf.constant(TEXTS))["text"].numpy().tolist()
    assert result.stdout.strip() == str(expected)


@pytest.mark.parametrize("name", SIGNATURES)
def test_both_exports_give_what_the_model_gives(filler, saved_model, lite_file, name):
    models = SavedModel(saved_model), LiteModel(lite_file)
    for texts in (TEXTS, TEXTS[:1], [f"{TEXTS[4]} one two three four five six", *TEXTS]):
        expected = getattr(filler, SIGNATURES[name])(tf.constant(texts))
        for model in models:
            outputs = model.run(name, texts=np.array([t.encode() for t in texts], object))
            assert outputs.keys() == expected.keys()
            for key, tensor in expected.items():
                if tensor.dtype.is_floating:
                    np.testing.assert_allclose(outputs[key], tensor, atol=2e-4, err_msg=key)
                else:
                    np.testing.assert_array_equal(outputs[key], tensor, err_msg=key)


def test_a_smaller_file_of_some_signatures_still_fills(filler, tmp_path):
    file = export_lite(
        filler,
        tmp_path / "small.tflite",
        signatures=["serving_default"],
        batch_size=2,
        quantization="dynamic_int8",
    )
    model = LiteModel(file)
    assert model.description.signatures == ("serving_default",)
    texts = np.array([b"two <mask> five", b"one"], object)
    expected = filler.fill_texts(tf.constant(texts))["probability"].numpy()
    outputs = model.run("serving_default", texts=texts)
    np.testing.assert_allclose(outputs["probability"], expected, atol=0.05)
    assert PAD_ID not in outputs["ids"][0]


def test_an_export_describes_itself_and_is_no_translator(filler, saved_model, lite_file):
    for path, model in ((saved_model, SavedModel), (lite_file, LiteModel)):
        about = model(path).description
        assert about.kind == "masked language model"
        assert (about.top_k, about.max_length, about.mask_token) == (3, 12, "<mask>")
        assert about.tokenizer_sha256 == filler.tokenizer.sha256
        with pytest.raises(InputError, match=r"masked language model.*translator"):
            load_engine(path)
