"""docs/file-formats.md names the files and fields that are written, and no others."""

import dataclasses
import json
import re

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.corpora import translate_corpus
from ktransformer.drawing import can_draw
from ktransformer.exporting.lite.companions import target_tokenizer_beside, tokenizer_beside
from ktransformer.exporting.lite.model_file import read_metadata
from ktransformer.fitting import state
from ktransformer.models.lora import LoraOptions
from ktransformer.saving import adapter, folder
from ktransformer.saving.array_file import read_arrays
from ktransformer.tasks import description, save
from ktransformer.tasks.registry import registered_tasks
from ktransformer.tasks.text_description import TextDescription
from ktransformer.text import shards
from tests.format_page import PAGE, check_files, names, rows, section
from tests.small_models import small_classifier
from tests.small_run import number_pairs

OWN = {  # Other tests register kinds of their own.
    kind: task
    for kind, task in registered_tasks().items()
    if task.__module__.startswith("ktransformer.")
}


def kinds_of(row: dict[str, str]) -> list[str]:
    """The kinds of model that a row is about."""
    return row["kind"].split(", ")


def fields_of(kind: str) -> list[str]:
    """The fields of an export's description, as the page has them for a kind of model."""
    groups = {"all", kind}
    if issubclass(OWN[kind].description_class, TextDescription):
        groups.add("with text")
    return [
        name
        for row in rows(section("A SavedModel"), "field of a description")
        if groups & set(kinds_of(row))
        for name in names(row["field of a description"])
    ]


def test_the_files_of_a_run_and_the_fields_of_its_description(run_folder):
    check_files(
        "A run", run_folder, {"with Matplotlib, from two epochs on"} if can_draw() else set()
    )
    column = "field of `model.json`"
    named = [name for row in rows(section("A run"), column) for name in names(row[column])]
    assert sorted(named) == sorted(json.loads((run_folder / "model.json").read_bytes()))


def test_the_files_of_a_saved_model(saved_model):
    check_files("A SavedModel", saved_model, {"with a tokenizer"})


def test_the_fields_of_a_translators_exports(saved_model, lite_file):
    for text in ((saved_model / "ktransformer.json").read_bytes(), read_metadata(lite_file)):
        assert sorted(json.loads(text)) == sorted(fields_of("translator"))


@pytest.mark.parametrize("kind", OWN)
def test_the_fields_of_an_export_of_each_kind(kind):
    fields = dataclasses.fields(OWN[kind].description_class)
    assert sorted(fields_of(kind)) == sorted(field.name for field in fields)


def test_the_tokenizers_beside_a_file_of_ids(ids_file):
    named = [name for name in names(section("A .tflite")) if name.startswith("FILE")]
    assert named == [str(tokenizer_beside("FILE")), str(target_tokenizer_beside("FILE"))]
    (beside,) = ids_file.parent.glob(f"{ids_file.name}*.model")
    assert beside.name == named[0].replace("FILE", ids_file.name)


def test_the_files_of_each_kind_of_model():
    table = rows(section("The folder of another model"), "files of the kind")
    named = {kind: names(row["files of the kind"]) for row in table for kind in kinds_of(row)}
    assert named == {kind: [*task.FILES, *task.OPTIONAL_FILES] for kind, task in OWN.items()}


def test_the_files_of_an_image_classifier(tmp_path):
    save(small_classifier(), tmp_path / "model")
    found = {path.name for path in (tmp_path / "model").iterdir()}
    (row,) = (
        row
        for row in rows(section("The folder of another model"), "files of the kind")
        if row["kind"] == "image classifier"
    )
    assert found == {"model.json", "model.keras", *names(row["files of the kind"])}


def test_the_fields_of_an_adapter(tmp_path):
    matrices = [np.zeros((4, 2), "float32"), np.zeros((2, 4), "float32")]
    saved = adapter.Adapter("0" * 64, LoraOptions(2, 4.0), matrices)
    adapter.save_adapter(saved, tmp_path / "adapter.npz")
    head, *others = read_arrays(tmp_path / "adapter.npz", "an adapter")
    named = [name for name in names(section("An adapter")) if re.fullmatch("[a-z_]+", name)]
    assert sorted(named) == sorted(json.loads(head.tobytes()))
    assert [each.shape for each in others] == [(4, 2), (2, 4)]


def test_what_clean_writes(tmp_path):
    (tmp_path / "pairs").write_text("one\teins\ntwo\tzwei\n\tleer\n")
    for side, texts in (("source", "one\ntwo\n\n"), ("target", "eins\nzwei\nleer\n")):
        (tmp_path / side).write_text(texts)
    sides = ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]
    for words in (["--pairs", str(tmp_path / "pairs")], sides):
        output = tmp_path / f"cleaned{len(words)}"
        assert main(["clean", *words, "--output", str(output)]) == 0
        options = " and ".join(f"`{word}`" for word in words[::2])
        check_files("Text that commands read", output, {f"of {options}"})
    (row,) = (
        row
        for row in rows(section("Text that commands read"), "file")
        if row["file"] == "`dropped.jsonl`"
    )
    dropped = (output / "dropped.jsonl").read_text(encoding="utf-8")
    assert list(json.loads(dropped)) == names(row["holds"])


def test_the_folder_of_a_corpus_that_is_cut_and_goes_on(lite_file, tmp_path):
    lines = "".join(f"{source}\n" for source, _ in number_pairs(120, seed=7))
    (tmp_path / "a.txt").write_text(lines)

    def cut(progress):
        if progress.texts:
            raise KeyboardInterrupt

    corpus = lite_file, [tmp_path / "a.txt"], tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        translate_corpus(*corpus, shard_bytes=1000, on_progress=cut)
    check_files(
        "A translated corpus", tmp_path / "out", {"for each shard that is done of another input"}
    )
    translate_corpus(*corpus, shard_bytes=1000)
    check_files("A translated corpus", tmp_path / "out", {"for each input that is done"})


def test_the_versions_of_the_formats():
    table = rows(PAGE.read_text(encoding="utf-8"), "`format_version`")
    named = {row["format"].split(",")[0]: row["`format_version`"].split(";")[0] for row in table}
    assert named == {
        "run": str(folder.FORMAT_VERSION),
        "SavedModel": str(description.FORMAT_VERSION),
        ".tflite": str(description.FORMAT_VERSION),
        "state of a training": str(state.FORMAT_VERSION),
        "adapter": str(adapter.FORMAT_VERSION),
        "encoded text": str(shards.FORMAT_VERSION),
        "translated corpus": "none",
    }
