"""Texts to vectors: pooling, normalisation, cutting, exports, folders and verification."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.tasks import MaskFiller, TextEmbedder, load, save
from ktransformer.verification import Export, compare_exports
from tests.layers.layer_checks import array, randomize
from tests.small_models import small_embedder, small_filler

TEXTS = ["two five", "one", "", "six seven nine four", "§ two"]
LONG = " ".join(["one", "two"] * 20)


@pytest.fixture(scope="module")
def embedder():
    return small_embedder()


def encoded(texts):
    return np.array([text.encode() for text in texts], object)


def vectors(embedder, texts):
    return embedder.embed(tf.constant(texts))["embedding"].numpy()


@pytest.mark.parametrize(
    "pooling", ["mean", *(pytest.param(other, marks=pytest.mark.long) for other in ("cls", "max"))]
)
def test_a_vector_is_pooled_over_the_real_tokens(embedder, pooling):
    (ids,) = embedder.tokenizer.encode_lines(["two five"])
    hidden = array(embedder.model.encode(ids[None]))[0]
    expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0)}[pooling]
    plain = embedder.with_settings(pooling=pooling, normalize=False)
    np.testing.assert_allclose(vectors(plain, ["two five", LONG])[0], expected, atol=1e-5)
    unit = embedder.with_settings(pooling=pooling)
    expected = expected / np.linalg.norm(expected)
    np.testing.assert_allclose(vectors(unit, ["two five", LONG])[0], expected, atol=1e-6)


def test_a_text_is_cut_to_the_length_of_the_settings(embedder):
    short = embedder.with_settings(max_length=4)
    assert short.embed(tf.constant(["one", LONG]))["truncated"].numpy().tolist() == [False, True]
    ids = short.encode(tf.constant([LONG]))[0].numpy()
    assert ids.shape == (1, 4)
    expected = array(embedder.model.embed(ids))[0]
    got = vectors(short.with_settings(normalize=False), [LONG])[0]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.long
def test_both_exports_give_what_the_model_gives(embedder, tmp_path):
    embedder = embedder.with_settings(max_length=8)
    saved = SavedModel(export_saved_model(embedder, tmp_path / "model"))
    lite = LiteModel(export_lite(embedder, tmp_path / "m.tflite"))
    for texts in (TEXTS, TEXTS[:1], [LONG, *TEXTS]):
        expected = embedder.embed(tf.constant(texts))
        for model in (saved, lite):
            outputs = model.run("serving_default", texts=encoded(texts))
            np.testing.assert_allclose(outputs["embedding"], expected["embedding"], atol=1e-6)
            np.testing.assert_array_equal(outputs["truncated"], expected["truncated"])
    for about in (saved.description, lite.description):
        assert (about.kind, about.pooling, about.normalize) == ("text embedder", "mean", True)
        assert (about.max_length, about.dimensions) == (8, 32)
    report = compare_exports(embedder, [Export(lite.path)], TEXTS)
    assert (report.broken, report.results[1].difference < 1e-6) == ((), True)


@pytest.mark.long
def test_an_int8_file_of_a_fixed_batch_is_close(embedder, tmp_path):
    file = export_lite(embedder, tmp_path / "m.tflite", quantization="dynamic_int8", batch_size=2)
    outputs = LiteModel(file).run("serving_default", texts=encoded(TEXTS[:2]))
    cosines = np.sum(outputs["embedding"] * vectors(embedder, TEXTS[:2]), axis=1)
    assert cosines.min() > 0.99


@pytest.mark.long
def test_an_export_of_other_weights_is_found_out(embedder, tmp_path):
    other = small_embedder()
    randomize(other.model, seed=5)
    report = compare_exports(embedder, [Export(export_saved_model(other, tmp_path / "m"))], TEXTS)
    assert "more than 0.001" in report.broken[0]


def test_a_folder_keeps_the_settings_and_takes_others(embedder, tmp_path):
    save(embedder.with_settings(pooling="max", max_length=6), tmp_path / "run")
    loaded = load(tmp_path / "run")
    assert type(loaded) is TextEmbedder
    assert loaded.settings == {"pooling": "max", "normalize": True, "max_length": 6}
    np.testing.assert_array_equal(
        vectors(loaded, TEXTS), vectors(embedder.with_settings(**loaded.settings), TEXTS)
    )
    assert load(tmp_path / "run", pooling="cls").pooling == "cls"


def test_a_masked_language_model_embeds_as_its_filler_does():
    filler = small_filler()
    embedder = TextEmbedder(filler.model, filler.tokenizer, normalize=False)
    expected = filler.embed(tf.constant(TEXTS))["embedding"]
    np.testing.assert_allclose(vectors(embedder, TEXTS), expected, atol=1e-6)
    assert MaskFiller(embedder.model, embedder.tokenizer).top_k == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pooling": "last"}, r"pooling.*mean.*cls.*max.*'last'"),
        ({"normalize": "yes"}, r"normalize.*'yes'"),
        ({"max_length": 13}, "max_length.*12.*13"),
        ({"max_length": 0}, "max_length.*1.*0"),
    ],
    ids=str,
)
def test_an_impossible_setting_is_refused(embedder, wrong, message):
    with pytest.raises(InputError, match=message):
        embedder.with_settings(**wrong)
