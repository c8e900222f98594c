import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.tasks import ImageClassifier, ImageClassifierDescription
from tests.layers.layer_checks import array
from tests.small_models import CLASSES, drawn_images, small_classifier


@pytest.fixture(scope="module")
def classifier():
    return small_classifier()


@pytest.fixture(scope="module")
def saved_model(classifier, tmp_path_factory):
    return export_saved_model(classifier, tmp_path_factory.mktemp("images") / "model")


def probabilities(classifier, images):
    """What the model says of float images in [0, 255], of its size."""
    logits = array(classifier.model(images / 127.5 - 1)).astype("float64")
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_pixels_give_the_models_class_and_probability(classifier):
    images = drawn_images(5, 8, 12)
    expected = probabilities(classifier, images.astype("float32"))
    outputs = classifier.classify_pixels(images)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)
    np.testing.assert_array_equal(outputs["class"], expected.argmax(axis=1))
    np.testing.assert_allclose(outputs["probability"], expected.max(axis=1), atol=1e-5)
    names = [CLASSES[i].encode() for i in expected.argmax(axis=1)]
    assert outputs["label"].numpy().tolist() == names


def test_files_of_any_size_are_decoded_and_resized(classifier):
    large, fitting = drawn_images(1, 30, 25)[0], drawn_images(1, 8, 12)[0]
    files = [tf.io.encode_png(large), tf.io.encode_png(fitting)]
    outputs = classifier.classify(tf.stack(files))
    for i, image in enumerate((large, fitting)):
        expected = classifier.classify_pixels(image[None])["probabilities"][0]
        np.testing.assert_allclose(outputs["probabilities"][i], expected, atol=1e-5)


def test_jpeg_bmp_and_grey_files_are_images_too(classifier):
    image = drawn_images(1, 8, 12)[0]
    bitmap = bytes.fromhex("424d3a000000000000003600000028000000010000000100000001001800")
    bitmap += bytes.fromhex("00000000040000000000000000000000000000000000000010203000")
    grey = tf.io.encode_png(image[..., :1])
    outputs = classifier.classify(tf.stack([tf.io.encode_jpeg(image), bitmap, grey]))
    assert outputs["class"].shape == (3,)
    expected = classifier.classify_pixels(np.array([[[[0x30, 0x20, 0x10]]]], np.uint8))
    np.testing.assert_allclose(outputs["probabilities"][1], expected["probabilities"][0], atol=1e-5)
    repeated = classifier.classify_pixels(np.repeat(image[None, ..., :1], 3, axis=-1))
    np.testing.assert_allclose(outputs["probabilities"][2], repeated["probabilities"][0], atol=1e-5)


def test_an_image_looks_as_it_did_in_training(classifier, tmp_path):
    (tmp_path / "star").mkdir()
    content = tf.io.encode_png(drawn_images(1, 30, 25)[0])
    (tmp_path / "star" / "1.png").write_bytes(content.numpy())
    dataset = keras.utils.image_dataset_from_directory(
        str(tmp_path), image_size=(8, 12), verbose=False
    )
    ((images, _),) = list(dataset)
    expected = probabilities(classifier, images.numpy())
    outputs = classifier.classify(tf.stack([content]))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)


def test_what_is_no_image_is_an_error(classifier):
    with pytest.raises(tf.errors.InvalidArgumentError):
        classifier.classify(tf.constant(["no image"]))


def test_a_name_for_each_class_is_wanted(classifier):
    with pytest.raises(InputError, match=r"3 classes.*2"):
        ImageClassifier(classifier.model, ["circle", "square"])


FRESH = """
import sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
content = tf.constant([open(sys.argv[2], "rb").read()])
outputs = model.signatures["serving_default"](content)
print(outputs["label"].numpy()[0].decode(), round(float(outputs["probability"][0]), 4))
assert not {"ktransformer", "tensorflow_text"} & set(sys.modules)
"""


@pytest.mark.long
def test_the_saved_model_classifies_in_a_process_without_ktransformer(
    classifier, saved_model, tmp_path
):
    content = tf.io.encode_png(drawn_images(1, 20, 20)[0])
    (tmp_path / "image.png").write_bytes(content.numpy())
    command = [sys.executable, "-c", FRESH, str(saved_model), str(tmp_path / "image.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = classifier.classify(tf.stack([content]))
    label, probability = result.stdout.split()
    assert label == expected["label"].numpy()[0].decode()
    assert float(probability) == pytest.approx(float(expected["probability"][0]), abs=1e-4)


def test_the_saved_model_takes_pixels_of_any_size(classifier, saved_model):
    images = drawn_images(3, 17, 9)
    outputs = SavedModel(saved_model).run("pixels", images=images)
    expected = classifier.classify_pixels(images)
    np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"], atol=1e-5)


@pytest.mark.parametrize(
    ("quantization", "tolerance"), [("none", 1e-5), ("float16", 0.01), ("dynamic_int8", 0.1)]
)
def test_a_lite_file_takes_bytes_and_floats(classifier, tmp_path, quantization, tolerance):
    model = LiteModel(export_lite(classifier, tmp_path / "m.tflite", quantization=quantization))
    for count in (1, 5):
        images = drawn_images(count, 8, 12)
        expected = classifier.classify_pixels(images)["probabilities"]
        for outputs in (
            model.run("serving_default", images=images),
            model.run("unit_pixels", images=images.astype("float32") / 255),
        ):
            np.testing.assert_allclose(outputs["probabilities"], expected, atol=tolerance)
            best = outputs["probabilities"].argmax(axis=1)
            np.testing.assert_array_equal(outputs["class"], best)


def test_grey_images_and_a_fixed_batch_convert(tmp_path):
    classifier = small_classifier(channels=1)
    model = LiteModel(export_lite(classifier, tmp_path / "m.tflite", batch_size=2))
    images = drawn_images(2, 8, 12, channels=1)
    expected = classifier.classify_pixels(images)["probabilities"]
    outputs = model.run("serving_default", images=images)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)
    about = model.description
    assert (about.kind, about.classes) == ("image classifier", CLASSES)
    assert (about.image_size, about.channels, about.batch_size) == ((8, 12), 1, 2)


def test_what_utf8_cannot_write_is_refused_before_anything_is_written(classifier, tmp_path):
    with pytest.raises(InputError, match=r"path.*UTF-8"):
        export_saved_model(classifier, tmp_path / "m\udcff")
    with pytest.raises(InputError, match=r"classes.*UTF-8"):
        ImageClassifier(classifier.model, [*classifier.classes[:-1], "odd\udcff"])
    with pytest.raises(InputError, match=r"classes.*UTF-8"):
        ImageClassifierDescription(
            signatures=(), image_size=(8, 8), channels=1, classes=("a", "\udcff")
        )
    assert list(tmp_path.iterdir()) == []
