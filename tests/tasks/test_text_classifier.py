"""Texts to classes: labels, exports, folders and verification."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.tasks import TextClassifier, load, save
from ktransformer.verification import Export, compare_exports
from tests.layers.layer_checks import array, randomize
from tests.small_models import CLASSES, small_text_classifier

TEXTS = ["two five", "one", "", "six seven nine four", "§ two"]


@pytest.fixture(scope="module")
def classifier():
    return small_text_classifier()


def encoded(texts):
    return np.array([text.encode() for text in texts], object)


def test_the_best_class_has_its_label_and_probability(classifier):
    outputs = {k: v.numpy() for k, v in classifier.classify(tf.constant(TEXTS)).items()}
    for i, ids in enumerate(classifier.tokenizer.encode_lines(TEXTS)):
        logits = array(classifier.model({"ids": ids[None]}))[0].astype("float64")
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(outputs["probabilities"][i], expected, atol=1e-5)
        assert outputs["class"][i] == expected.argmax()
        assert outputs["label"][i].decode() == CLASSES[expected.argmax()]
        assert outputs["probability"][i] == pytest.approx(expected.max(), abs=1e-5)
    assert len(set(outputs["class"])) > 1


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [("none", 1e-6), pytest.param("dynamic_int8", 0.1, marks=pytest.mark.long)],
)
def test_a_lite_file_gives_what_the_model_gives(classifier, tmp_path, quantization, tolerance):
    file = export_lite(
        classifier,
        tmp_path / "m.tflite",
        signatures=["serving_default"],
        quantization=quantization,
    )
    lite = LiteModel(file)
    for texts in (TEXTS, TEXTS[:1]):
        expected = classifier.classify(tf.constant(texts))
        outputs = lite.run("serving_default", texts=encoded(texts))
        assert outputs.keys() == expected.keys()
        got = outputs["probabilities"]
        np.testing.assert_allclose(got, expected["probabilities"], atol=tolerance)
        assert outputs["label"].tolist() == [CLASSES[i].encode() for i in got.argmax(axis=1)]
    if quantization == "none":
        assert compare_exports(classifier, [Export(file)], TEXTS).broken == ()


@pytest.mark.long
def test_a_saved_model_gives_what_the_model_gives(classifier, tmp_path):
    saved = SavedModel(export_saved_model(classifier.with_settings(max_length=3), tmp_path / "m"))
    outputs = saved.run("serving_default", texts=encoded(TEXTS))
    expected = classifier.with_settings(max_length=3).classify(tf.constant(TEXTS))
    for name, tensor in expected.items():
        if tensor.dtype.is_floating:
            np.testing.assert_allclose(outputs[name], tensor, atol=1e-6)
        else:
            np.testing.assert_array_equal(outputs[name], tensor)
    about = saved.description
    assert (about.kind, about.classes, about.max_length) == ("text classifier", CLASSES, 3)


@pytest.mark.long
def test_an_export_of_other_weights_is_found_out(classifier, tmp_path):
    other = small_text_classifier()
    randomize(other.model, seed=5)
    report = compare_exports(classifier, [Export(export_saved_model(other, tmp_path / "m"))], TEXTS)
    assert report.broken != ()


def test_a_folder_keeps_the_classes_and_settings(classifier, tmp_path):
    save(classifier.with_settings(max_length=7), tmp_path / "run")
    loaded = load(tmp_path / "run")
    assert type(loaded) is TextClassifier
    assert (loaded.classes, loaded.max_length) == (CLASSES, 7)
    expected = classifier.classify(tf.constant(TEXTS[:2]))["probabilities"]
    np.testing.assert_allclose(
        loaded.classify(tf.constant(TEXTS[:2]))["probabilities"], expected, atol=1e-6
    )


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        (["a", "b"], InputError, "3 classes.*2"),
        ("abc", TypeError, "classes.*one string"),
        (["a", "b", "odd\udcff"], InputError, "classes.*UTF-8"),
        (["a", "b", 3], InputError, "classes.*3"),
    ],
    ids=str,
)
def test_a_name_for_each_class_is_wanted(classifier, classes, error, message):
    with pytest.raises(error, match=message):
        TextClassifier(classifier.model, classifier.tokenizer, classes)
