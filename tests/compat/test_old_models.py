"""Models written before the kinds of model had one format load, and give what they gave then."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ktransformer import tasks
from ktransformer.engines import load_engine
from ktransformer.exporting import LiteModel, SavedModel
from ktransformer.saving.run import load_run

RUNS = ("run_post_norm", "run_pre_norm", "run_interleaved")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    with tarfile.open(Path(__file__).with_name("models.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def answers(models):
    return json.loads((models / "answers.json").read_text(encoding="utf-8"))


def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (2, 8, 12, 3), np.uint8)


def probabilities(answers) -> np.ndarray:
    powers = np.exp(answers["image_classifier"]["logits"])
    return powers / powers.sum(axis=1, keepdims=True)


def without_checksums(folder: Path) -> None:
    """Makes a run what version 1 wrote."""
    fields = json.loads((folder / "run.json").read_text())
    del fields["files"], fields["sha256"]
    (folder / "run.json").write_text(json.dumps({**fields, "format_version": 1}))


@pytest.mark.parametrize("name", [*RUNS, "translator.tflite", "saved_model_translator"])
def test_what_translated_translates_the_same(name, models, answers):
    found = load_engine(models / name).translate_n_best(answers["texts"])
    assert [translation.text for translation in found] == answers[name]["text"]
    scores = [translation.scores[0] for translation in found]
    np.testing.assert_allclose(scores, answers[name]["score"], atol=1e-5)


def test_a_run_of_version_1_or_2_is_opened_as_a_run_and_as_a_task(models, tmp_path):
    first = shutil.copytree(models / "run_pre_norm", tmp_path / "first")
    without_checksums(first)
    for folder in (first, models / "run_pre_norm"):
        run, task = load_run(folder), tasks.load(folder)
        assert run.history == {"loss": [2.0, 1.0]}
        assert run.config.model.num_decoder_layers == 2
        assert task.decoding == run.config.decoding
        for one, other in zip(run.model.weights, task.model.weights, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("described", [True, False])
def test_the_folder_of_a_masked_language_model_fills_the_same(described, models, answers, tmp_path):
    folder = shutil.copytree(models / "masked_language_model", tmp_path / "copy")
    if not described:
        (folder / "model.json").unlink()
    found = tasks.load(folder, top_k=2).fill_texts(answers["masked"])
    wanted = answers["masked_language_model"]
    assert found["ids"].numpy().tolist() == wanted["ids"]
    np.testing.assert_allclose(found["probability"], wanted["probability"], atol=1e-5)


@pytest.mark.parametrize("described", [True, False])
def test_the_folder_of_an_image_classifier_classifies_the_same(
    described, models, answers, tmp_path
):
    folder = shutil.copytree(models / "image_classifier", tmp_path / "copy")
    if not described:
        (folder / "model.json").unlink()
    found = tasks.load(folder).classify_pixels(images())["probabilities"]
    np.testing.assert_allclose(found, probabilities(answers), atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), [(LiteModel, ".tflite"), (SavedModel, "")])
def test_exports_of_the_other_kinds_give_the_same(kind, name, models, answers):
    prefix = "" if name else "saved_model_"
    filler = kind(models / f"{prefix}filler{name}")
    texts = np.array([text.encode() for text in answers["masked"]], object)
    fills, wanted = filler.run("serving_default", texts=texts), answers["masked_language_model"]
    assert fills["ids"].tolist() == wanted["ids"]
    np.testing.assert_allclose(fills["probability"], wanted["probability"], atol=1e-5)
    classifier = kind(models / f"{prefix}classifier{name}")
    signature = "serving_default" if name else "pixels"
    found = classifier.run(signature, images=images())["probabilities"]
    np.testing.assert_allclose(found, probabilities(answers), atol=1e-5)


def test_an_old_folder_is_written_anew_in_the_one_format(models, tmp_path):
    shutil.copytree(models / "image_classifier", tmp_path / "copy")
    task = tasks.load(tmp_path / "copy")
    tasks.save(task, tmp_path / "copy", overwrite=True)
    fields = json.loads((tmp_path / "copy" / "model.json").read_text())
    assert (fields["format_version"], fields["kind"]) == (3, "image classifier")
    assert tasks.load(tmp_path / "copy").classes == task.classes
