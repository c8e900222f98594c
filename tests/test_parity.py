"""The proof of parity: it holds for a good export, and a bad one breaks it."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.exporting.matching import Comparison
from ktransformer.verification.parity import (
    Export,
    compare_exports,
    parity_table,
    verify_image_classifier,
)
from ktransformer.verification.tolerances import Tolerances
from tests.layers.layer_checks import randomize
from tests.small_models import drawn_images, small_classifier, small_filler

TEXTS = np.array([b"two <mask> five", b"one", b"<mask> nine", b"six <mask> seven four"], object)


@pytest.fixture(scope="module")
def filler():
    return small_filler()


@pytest.fixture(scope="module")
def exports(filler, tmp_path_factory):
    """A SavedModel, a .tflite, and a .tflite of other weights."""
    folder = tmp_path_factory.mktemp("exports")
    good = export_saved_model(filler, folder / "model"), export_lite(filler, folder / "good.tflite")
    other = small_filler()
    randomize(other.model, seed=5)
    return [Export(path) for path in (*good, export_lite(other, folder / "bad.tflite"))]


def test_good_exports_hold(filler, exports):
    default = "serving_default"
    results = compare_exports(filler.fill_texts, exports[:2], default, TEXTS, batch_size=3)
    assert [(r.identical, r.broken) for r in results] == [(1.0, ())] * 2
    assert [r.kind for r in results] == ["SavedModel", "tflite"]
    assert all(r.difference < 1e-4 and r.bytes > 0 and r.milliseconds > 0 for r in results)
    assert parity_table(results).splitlines()[-1] == "All tolerances hold."


def test_an_export_of_other_weights_is_found_out(filler, exports):
    (fills,) = compare_exports(filler.fill_texts, exports[2:], "serving_default", TEXTS)
    assert fills.identical == 0.25  # The text without a mask.
    assert len(fills.broken) == 1
    (vectors,) = compare_exports(filler.embed, exports[2:], "embed", TEXTS)
    assert vectors.identical == 1.0
    assert vectors.difference > 0.1
    last = parity_table([fills, vectors]).splitlines()[-1]
    assert last.startswith("BROKEN: ")
    assert last.endswith("at most 0.001 was allowed.")


def test_a_number_that_is_none_is_found_out(filler, exports, tmp_path):
    broken = small_filler()
    embeddings = broken.model.embedding.embeddings
    export = export_lite(broken, tmp_path / "m.tflite", signatures=["embed"])
    embeddings.assign(embeddings * np.nan)
    (result,) = compare_exports(broken.embed, [Export(export)], "embed", TEXTS)
    assert np.isnan(result.difference)
    assert len(result.broken) == 1


@pytest.mark.long
def test_images_are_compared_too_and_a_quantised_file_by_what_is_stated(tmp_path):
    classifier = small_classifier()
    small = export_lite(classifier, tmp_path / "m.tflite", quantization="dynamic_int8")
    exports = [Export(export_saved_model(classifier, tmp_path / "model")), Export(small)]
    files = [tmp_path / f"{i}.png" for i in range(9)]
    for path, image in zip(files, drawn_images(9, 20, 15), strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    with pytest.raises(InputError, match=r"m\.tflite nothing would be demanded"):
        verify_image_classifier(classifier, exports, files)
    stated = Tolerances(max_score_difference=0.1)
    results = verify_image_classifier(classifier, exports, files, batch_size=4, tolerances=stated)
    assert [r.signature for r in results] == [
        "serving_default",
        "pixels",
        "serving_default",
        "unit_pixels",
    ]
    assert all(not r.broken for r in results)
    exact, rough = results[:2], results[2:]
    assert all(r.identical == 1.0 and r.difference < 1e-5 for r in exact)
    assert all(1e-5 < r.difference < 0.1 and r.kind == "tflite, dynamic_int8" for r in rough)


def test_without_an_export_the_model_is_not_run():
    def model(texts):
        raise AssertionError("It was run.")

    assert compare_exports(model, [], "embed", TEXTS) == []


def test_each_image_is_decoded_once(tmp_path, monkeypatch):
    classifier, decoded = small_classifier(), []
    export = Export(export_lite(classifier, tmp_path / "m.tflite"))
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, image in zip(files, drawn_images(2, 9, 9), strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    decode = classifier.resized_pixels
    monkeypatch.setattr(
        classifier, "resized_pixels", lambda content: decoded.append(content) or decode(content)
    )
    verify_image_classifier(classifier, [export], files)
    assert decoded == [path.read_bytes() for path in files]


def test_what_cannot_be_compared_is_refused(filler, exports):
    with pytest.raises(InputError, match="There is no input"):
        compare_exports(filler.embed, exports[:1], "embed", TEXTS[:0])
    with pytest.raises(InputError, match="has no signature beam, only serving_default, embed"):
        compare_exports(filler.embed, exports[:1], "beam", TEXTS)


def fills(*pieces: tuple[str, float]) -> dict[str, np.ndarray]:
    """Outputs for one text with a mask."""
    names, probabilities = zip(*pieces, strict=True)
    return {"piece": np.array([names], object), "probability": np.array([probabilities])}


@pytest.mark.parametrize(
    ("pieces", "same", "difference"),
    [
        ([("b", 0.4), ("a", 0.4001), ("c", 0.1)], True, 0.0001),
        ([("c", 0.1), ("b", 0.4), ("a", 0.4001)], True, 0.3001),  # The best does not come first.
        ([("a", 0.4), ("b", 0.1), ("c", 0.4)], True, 0.3),
        ([("a", 0.4001), ("x", 0.4), ("c", 0.1)], False, 0.0),
    ],
)
def test_choices_are_compared_by_what_they_say(pieces, same, difference):
    comparison = Comparison({"piece": "probability"})
    comparison.add(fills(("a", 0.4001), ("b", 0.4), ("c", 0.1)), fills(*pieces))
    assert comparison.same == [same]
    assert comparison.difference == pytest.approx(difference)
