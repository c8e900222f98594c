"""Exports of a masked language model and of an image classifier are verified against it."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.verification import Export, Tolerances, compare_exports
from tests.layers.layer_checks import randomize
from tests.small_models import drawn_images, small_classifier, small_filler

TEXTS = ["two <mask> five", "one", "<mask> nine", "six <mask> seven four"]


@pytest.fixture(scope="module")
def filler():
    return small_filler()


@pytest.mark.long
def test_good_exports_hold(filler, tmp_path):
    saved = export_saved_model(filler, tmp_path / "model")
    lite = export_lite(filler, tmp_path / "m.tflite")
    report = compare_exports(filler, [Export(saved), Export(lite)], TEXTS, batch_size=3)
    assert report.broken == ()
    signatures = ["serving_default", "embed", "score"]
    assert [r.signature for r in report.results[1:]] == [s for s in signatures for _ in range(2)]
    assert [r.kind for r in report.results] == ["model", *["SavedModel", "tflite"] * 3]
    assert all(r.difference < 1e-4 and r.milliseconds > 0 for r in report.results)


def test_an_export_of_other_weights_is_found_out(filler, tmp_path):
    other = small_filler()
    randomize(other.model, seed=5)
    file = export_lite(other, tmp_path / "m.tflite", signatures=["serving_default", "embed"])
    report = compare_exports(filler, [Export(file)], TEXTS)
    _, fills, vectors = report.results
    assert fills.identical == 0.25  # The text without a mask.
    assert (vectors.identical, vectors.difference > 0.1) == (1.0, True)
    assert ["fewer than 0.999" in report.broken[0], "more than 0.001" in report.broken[-1]] == [
        True,
        True,
    ]


def test_a_number_that_is_none_is_found_out(tmp_path):
    broken = small_filler()
    file = export_lite(broken, tmp_path / "m.tflite", signatures=["embed"])
    embeddings = broken.model.embedding.embeddings
    embeddings.assign(embeddings * np.nan)
    report = compare_exports(broken, [Export(file)], TEXTS)
    assert np.isnan(report.results[1].difference)
    assert len(report.broken) == 1


def test_references_do_not_go_with_a_model_that_gives_no_text(tmp_path):
    classifier = small_classifier()
    file = export_lite(classifier, tmp_path / "m.tflite")
    with pytest.raises(InputError, match=r"image classifier.*--reference"):
        compare_exports(classifier, [Export(file)], write_images(tmp_path, 1), ["a"])


def write_images(folder, count):
    files = [folder / f"{i}.png" for i in range(count)]
    for path, image in zip(files, drawn_images(count, 20, 15), strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    return files


@pytest.mark.long
def test_a_quantised_classifier_is_held_to_what_is_stated(tmp_path):
    classifier, files = small_classifier(), write_images(tmp_path, 9)
    small = export_lite(classifier, tmp_path / "m.tflite", quantization="dynamic_int8")
    exports = [Export(export_saved_model(classifier, tmp_path / "model")), Export(small)]
    with pytest.raises(InputError, match=r"m\.tflite .*: give --min-identical"):
        compare_exports(classifier, exports, files)
    stated = Tolerances(max_score_difference=0.1)
    report = compare_exports(classifier, exports, files, batch_size=4, tolerances=stated)
    assert report.broken == ()
    exact, rough = report.results[1:3], report.results[3:]
    assert [r.signature for r in exact] == ["serving_default", "pixels"]
    assert [r.signature for r in rough] == ["serving_default", "unit_pixels"]
    assert all(r.identical == 1.0 and r.difference < 1e-5 for r in exact)
    assert all(1e-5 < r.difference < 0.1 and r.kind == "tflite, dynamic_int8" for r in rough)


def test_an_image_is_decoded_once_for_all_exports(tmp_path, monkeypatch):
    classifier, decoded = small_classifier(), []
    file = export_lite(classifier, tmp_path / "m.tflite", signatures=["serving_default"])
    files, decode = write_images(tmp_path, 2), classifier.resized_pixels
    monkeypatch.setattr(
        classifier, "resized_pixels", lambda content: decoded.append(content) or decode(content)
    )
    compare_exports(classifier, [Export(file)] * 2, files)
    first, second = (path.read_bytes() for path in files)
    assert decoded == [first, first, second]  # The first one for a start, which is not timed.
