"""Folders of trained models of every kind, and the commands on them."""

import hashlib
import json
import random
import shutil

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.cli import main
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, export_lite, export_saved_model
from ktransformer.tasks import ImageClassifier, MaskFiller, Translator, load
from ktransformer.tasks import write as write_task
from tests.run_command import refusal
from tests.small_models import drawn_images, small_classifier, small_filler


@pytest.fixture(scope="module")
def filler_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filler")
    write_task(small_filler(), folder)
    (folder.parent / "texts").write_text("two <mask> five\none\n\n<mask> nine\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    write_task(small_classifier(), folder)
    for i, image in enumerate(drawn_images(3, 9, 15)):
        path = folder.parent / "images" / "any" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    return folder


def test_every_kind_of_model_loads_as_what_it_is(run_folder, filler_folder, classifier_folder):
    kinds = [load(path) for path in (run_folder, filler_folder, classifier_folder)]
    assert [type(kind) for kind in kinds] == [Translator, MaskFiller, ImageClassifier]


def test_a_loaded_model_gives_what_the_saved_one_gave(filler_folder, classifier_folder):
    text = "two <mask> five"
    assert load(filler_folder).fill(text, top_k=3) == small_filler().fill(text)
    images = drawn_images(2, 8, 12)
    loaded, saved = load(classifier_folder), small_classifier()
    np.testing.assert_array_equal(
        loaded.classify_pixels(images)["probabilities"],
        saved.classify_pixels(images)["probabilities"],
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "source", "rows"), [("filler", "texts", 6), ("classifier", "images", 4)]
)
def test_the_commands_export_and_verify(
    kind, source, rows, filler_folder, classifier_folder, tmp_path, capfd
):
    folder = {"filler": filler_folder, "classifier": classifier_folder}[kind]
    exports = [tmp_path / "model", tmp_path / "m.tflite"]
    assert main(["export", str(folder), "--output", str(exports[0])]) == 0
    assert main(["export", str(folder), "--format", "tflite", "--output", str(exports[1])]) == 0
    capfd.readouterr()
    arguments = ["--run", folder, "--source", folder.parent / source, "--json", tmp_path / "j"]
    assert main(["verify", *map(str, [*exports, *arguments])]) == 0
    assert capfd.readouterr().out.endswith("All tolerances hold.\n")
    own, *results = json.loads((tmp_path / "j").read_text())["results"]
    assert (own["name"], own["kind"], own["bytes"] > 0) == (str(folder), "model", True)
    assert [result["identical"] for result in results] == [1.0] * rows


@pytest.mark.long
def test_an_export_of_another_model_breaks_a_tolerance(filler_folder, tmp_path, capfd):
    other = small_filler(num_layers=1)
    write_task(other, tmp_path)
    exported = str(tmp_path / "other.tflite")
    assert main(["export", str(tmp_path), "--format", "tflite", "--output", exported]) == 0
    texts = str(filler_folder.parent / "texts")
    assert main(["verify", exported, "--run", str(filler_folder), "--source", texts]) == 1
    assert "BROKEN" in capfd.readouterr().out


def test_the_signatures_and_the_precision_of_a_file_can_be_chosen(filler_folder, tmp_path):
    file = str(tmp_path / "m.tflite")
    arguments = ["--signatures", "embed", "--quantize", "float16", "--top-k", "2"]
    arguments += ["--output", file]
    assert main(["export", str(filler_folder), "--format", "tflite", *arguments]) == 0
    about = LiteModel(file).description
    assert (about.signatures, about.quantization, about.top_k) == (("embed",), "float16", 2)


def test_fills_go_with_a_language_model_alone(run_folder, classifier_folder, tmp_path, capsys):
    for folder in (run_folder, classifier_folder):
        reason = refusal(capsys, "export", folder, "--top-k", 2, "--output", tmp_path / "model")
        assert "no setting top_k" in reason


def test_what_goes_with_a_translator_alone_is_refused(filler_folder, tmp_path, capsys):
    output = ["--output", tmp_path / "model"]
    reason = refusal(capsys, "export", filler_folder, "--beam-size", 2, *output)
    assert "is a masked language model, which has no setting beam_size" in reason
    assert "from 1 to" in refusal(capsys, "export", filler_folder, "--top-k", 9999, *output)
    labels = ["--source-label", "English", "--target-label", "German"]
    assert "no source_label" in refusal(capsys, "export", filler_folder, *labels, *output)
    files = ["--shortlist", "absent", "absent"]
    assert "no shortlist" in refusal(capsys, "export", filler_folder, *files, *output)
    texts = filler_folder.parent / "texts"
    verify = ["verify", "m.tflite", "--run", filler_folder, "--source", texts]
    assert "m.tflite: there is no such file" in refusal(capsys, *verify)


@pytest.mark.long
def test_a_file_of_a_fixed_batch_and_another_number_of_fills_is_verified(filler_folder, tmp_path):
    file, texts = str(tmp_path / "m.tflite"), str(filler_folder.parent / "texts")
    arguments = ["--batch-size", "3", "--top-k", "2", "--output", file]
    assert main(["export", str(filler_folder), "--format", "tflite", *arguments]) == 0
    assert main(["verify", file, "--run", str(filler_folder), "--source", texts]) == 0


@pytest.mark.long
def test_a_quantised_file_is_held_to_what_is_stated_which_must_be_something(
    filler_folder, tmp_path, capfd
):
    file, texts = str(tmp_path / "m.tflite"), str(filler_folder.parent / "texts")
    arguments = ["--quantize", "dynamic_int8", "--output", file]
    assert main(["export", str(filler_folder), "--format", "tflite", *arguments]) == 0
    verify = ["verify", file, "--run", str(filler_folder), "--source", texts]
    assert main(verify) == 2
    assert "for it is quantised: give --min-identical or --max-score-" in capfd.readouterr().err
    assert main([*verify, "--max-score-difference", "1e-9"]) == 1
    assert "BROKEN" in capfd.readouterr().out
    assert main([*verify, "--min-identical", "0.1"]) == 0


@pytest.mark.parametrize(
    "limit", [("min-identical", 1.5), ("min-identical", "nan"), ("max-score-difference", -1)]
)
def test_a_tolerance_outside_its_range_is_refused(limit, filler_folder, capsys):
    texts = filler_folder.parent / "texts"
    verify = ["verify", "m.tflite", "--run", filler_folder, "--source", texts]
    assert f"{limit[0].replace('-', '_')} must be" in refusal(
        capsys, *verify, f"--{limit[0]}={limit[1]}"
    )


def test_an_export_of_another_kind_is_refused(filler_folder, classifier_folder, tmp_path, capsys):
    file = str(tmp_path / "m.tflite")
    assert main(["export", str(classifier_folder), "--format", "tflite", "--output", file]) == 0
    capsys.readouterr()
    texts = filler_folder.parent / "texts"
    reason = refusal(capsys, "verify", file, "--run", filler_folder, "--source", texts)
    assert "m.tflite is an image classifier, not a masked language model as" in reason


@pytest.mark.parametrize("name", ["model.keras", "tokenizer.model"])
def test_a_file_that_is_missing_is_named(name, filler_folder, tmp_path):
    shutil.copytree(filler_folder, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(InputError, match=name):
        load(tmp_path / "copy")


def test_damaged_names_of_classes_are_refused(classifier_folder, tmp_path):
    shutil.copytree(classifier_folder, tmp_path / "copy")
    (tmp_path / "copy" / "model.json").unlink()  # It would find any other names.
    for content, reason in (
        ("[", "not JSON"),
        ('{"a": 1}', "list of names"),
        ('["a"]', "3 classes"),
    ):
        (tmp_path / "copy" / "classes.json").write_text(content)
        with pytest.raises(InputError, match=reason):
            load(tmp_path / "copy")


def test_a_folder_without_images_or_with_a_damaged_one_is_refused(
    classifier_folder, tmp_path, capsys
):
    file = tmp_path / "m.tflite"
    assert (
        main(["export", str(classifier_folder), "--format", "tflite", "--output", str(file)]) == 0
    )
    capsys.readouterr()
    (tmp_path / "images").mkdir()
    verify = ["verify", file, "--run", classifier_folder, "--source", tmp_path / "images"]
    assert "holds no image (.png" in refusal(capsys, *verify)
    (tmp_path / "images" / "bad.png").write_text("no image")
    assert "bad.png: This is no image" in refusal(capsys, *verify)


def test_a_model_that_is_there_is_not_replaced_unasked(tmp_path):
    (tmp_path / "model.keras").write_text("precious")
    with pytest.raises(InputError, match=r"model\.keras"):
        write_task(small_filler(), tmp_path)
    assert (tmp_path / "model.keras").read_text() == "precious"
    write_task(small_filler(), tmp_path, overwrite=True)
    assert load(tmp_path).kind == "masked language model"


@pytest.mark.parametrize("name", ["model.json", "model.keras", "classes.json"])
def test_every_flipped_bit_of_a_folder_is_refused(name, classifier_folder, tmp_path):
    folder = shutil.copytree(classifier_folder, tmp_path / "copy")
    content, generator = (folder / name).read_bytes(), random.Random(2)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (folder / name).write_bytes(damaged)
        with pytest.raises(InputError):
            load(folder)


def test_a_folder_says_the_kind_of_its_model_and_the_sha256_of_its_files(filler_folder):
    description = json.loads((filler_folder / "model.json").read_text())
    assert (description["format_version"], description["kind"]) == (3, "masked language model")
    assert description["files"] == {
        name: hashlib.sha256((filler_folder / name).read_bytes()).hexdigest()
        for name in ("model.keras", "tokenizer.model")
    }


def test_a_folder_without_a_description_still_loads(filler_folder, tmp_path):
    folder = shutil.copytree(filler_folder, tmp_path / "copy")
    (folder / "model.json").unlink()
    text = "two <mask> five"
    assert load(folder).fill(text, top_k=3) == small_filler().fill(text)


def test_a_folder_of_another_kind_or_version_is_refused(classifier_folder, tmp_path):
    folder = shutil.copytree(classifier_folder, tmp_path / "copy")
    fields = json.loads((folder / "model.json").read_text())
    for change in (
        {"kind": "masked language model"},
        {"kind": 1},
        {"format_version": 2},
        {"config": []},
        {"config": {"unknown": 1}},
        {"history": {"loss": 1}},
    ):
        (folder / "model.json").write_text(json.dumps({**fields, **change}))
        with pytest.raises(InputError):
            load(folder, check=False)


def test_a_model_that_is_not_finite_is_neither_saved_nor_exported(tmp_path):
    task = small_classifier()
    task.model.weights[0].assign(np.full(task.model.weights[0].shape, np.nan))
    (tmp_path / "folder").mkdir()
    for write, name in (
        (write_task, "folder"),
        (export_saved_model, "model"),
        (export_lite, "m.tflite"),
    ):
        with pytest.raises(InputError, match="NaN"):
            write(task, tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
