"""ViT and DeiT folders of Hugging Face transformers; `make_vision.py` wrote them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ktransformer
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.tasks import Resizing
from tests.layers.layer_checks import array

FOLDER = Path(__file__).parent / "vision"
NAMES = pytest.mark.parametrize("name", ["vit", "deit", "teacher"])


@pytest.fixture(scope="module")
def stored():
    with np.load(FOLDER / "vision.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def classifiers():
    return {name: ktransformer.load(FOLDER / name) for name in ("vit", "deit", "teacher")}


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(FOLDER / "vit", tmp_path / "vit"))


def change(folder, file, **values):
    """Sets values of a JSON file."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def of_our_pixels(name, pixels):
    """Undoes what the image processor makes of pixels: to [-1, 1]."""
    channels = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    mean, deviation = channels if name == "teacher" else np.full((2, 3), 0.5)
    return (pixels.transpose(0, 2, 3, 1) * deviation + mean) * 2 - 1


def log_probabilities(logits):
    exponentials = np.exp(logits.astype("float64"))
    return np.log(exponentials / exponentials.sum(axis=-1, keepdims=True))


@NAMES
def test_the_logits_of_pixels_are_those_of_transformers(stored, classifiers, name):
    images = of_our_pixels(name, stored[f"{name}/pixels"]).astype("float32")
    logits = array(classifiers[name].model(images))
    np.testing.assert_allclose(logits, stored[f"{name}/logits"], rtol=0, atol=1e-4)


@NAMES
def test_a_png_file_that_needs_no_resizing_gives_the_same_probabilities(stored, classifiers, name):
    files = [stored[f"{name}/files/{i}"].tobytes() for i in range(2)]
    found = np.log(classifiers[name].classify(files)["probabilities"])
    logits = np.stack([stored[f"{name}/logits/files/{i}"] for i in range(2)])
    np.testing.assert_allclose(found, log_probabilities(logits), rtol=0, atol=1e-4)


@NAMES
def test_images_are_resized_and_cut_as_by_pillow(stored, classifiers, name):
    for i in range(4):
        image = classifiers[name].resized_pixels(stored[f"{name}/resized/{i}"].tobytes())
        differences = np.abs(image.astype(int) - stored[f"{name}/images/{i}"].astype(int))
        assert differences.max() <= 1
        assert (differences > 0).mean() < 0.02


def test_the_classes_are_the_labels(classifiers):
    labels = ("tench", "goldfish", "great white shark, man-eater")
    assert [each.classes for each in classifiers.values()] == [labels] * 3


@pytest.mark.parametrize("name", ["vit", pytest.param("teacher", marks=pytest.mark.long)])
def test_the_exports_give_the_probabilities_of_transformers(stored, classifiers, name, tmp_path):
    contents = [
        stored[f"{name}/{kind}/{i}"].tobytes() for kind in ("files", "resized") for i in (0, 1)
    ]
    saved = SavedModel(export_saved_model(classifiers[name], tmp_path / "saved"))
    found = saved.run("serving_default", images=contents)["probabilities"]
    keys = [f"{name}/logits/{kind}/{i}" for kind in ("files", "resized") for i in (0, 1)]
    expected = log_probabilities(np.stack([stored[key] for key in keys]))
    # A value of a resized image may be another by 1 of 255.
    np.testing.assert_allclose(np.log(found[:2]), expected[:2], rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.log(found[2:]), expected[2:], rtol=0, atol=0.02)
    lite = LiteModel(export_lite(classifiers[name], tmp_path / "m.tflite"))
    assert lite.description.resizing == classifiers[name].resizing
    pixels = np.stack([classifiers[name].resized_pixels(each) for each in contents])
    outputs = lite.run("serving_default", images=pixels)["probabilities"]
    np.testing.assert_allclose(outputs, found, rtol=0, atol=1e-5)


def test_a_folder_of_ours_keeps_the_resizing(stored, classifiers, tmp_path):
    ktransformer.tasks.save(classifiers["teacher"], tmp_path / "run")
    loaded = ktransformer.load(tmp_path / "run")
    assert loaded.resizing == Resizing(interpolation="bicubic", like_pillow=True, size=(20, 20))
    content = [stored["teacher/resized/0"].tobytes()]
    np.testing.assert_array_equal(
        loaded.classify(content)["probabilities"],
        classifiers["teacher"].classify(content)["probabilities"],
    )


def test_a_mean_and_a_deviation_of_other_values_are_folded_in(stored, classifiers, copy):
    change(copy, "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 1, 2])
    image = stored["vit/images/0"]
    pixels = (image / 255 - [0.1, 0.2, 0.3]) / [0.5, 1, 2]  # What their model would see.
    expected = array(classifiers["vit"].model((pixels[None] / 1.0).astype("float32")))
    logits = array(ktransformer.load(copy).model((image[None] / 127.5 - 1).astype("float32")))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"num_hidden_layers": 10**9}, "2 layers.*num_hidden_layers=1000000000"),
        ("config.json", {"hidden_size": 2**30}, r"hidden_size|\[1073741824"),
        ("config.json", {"qkv_bias": False}, "qkv_bias=False"),
        ("config.json", {"hidden_act": "gelu_new"}, "hidden_act='gelu_new'"),
        ("config.json", {"problem_type": "regression"}, "problem_type='regression'"),
        ("config.json", {"architectures": ["ViTModel"]}, "ViTModel.*ViTForImageClassification"),
        ("config.json", {"id2label": {"0": "a", "2": "b"}}, "id2label.*0 to 2"),
        ("config.json", {"layer_scale": 1}, "layer_scale"),
        ("preprocessor_config.json", {"resample": 1}, "resample=1"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 16}}, "size=.*shortest_edge"),
        ("preprocessor_config.json", {"size": 20}, "20 x 20.*image_size=16"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, r"image_mean=\[0.5\].*3 numbers"),
        ("preprocessor_config.json", {"do_resize": False}, "do_resize=False"),
        ("preprocessor_config.json", {"image_processor_type": "BeitImageProcessor"}, "Beit"),
    ],
)
def test_what_cannot_be_expressed_is_named(copy, file, values, words):
    change(copy, file, **values)
    with pytest.raises(InputError, match=words):
        ktransformer.load(copy)


def test_all_that_is_wrong_is_named_at_once(copy):
    change(copy, "config.json", hidden_act="mish", num_attention_heads=3)
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"(?s)mish.*preprocessor_config.*num_attention_heads=3"):
        ktransformer.load(copy)
