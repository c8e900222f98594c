"""Exports that are opened: from odd paths, and in other processes."""

import pickle
import shutil

import pytest

from ktransformer.cli import main
from ktransformer.engines import LiteEngine, ModelEngine, SavedModelEngine
from ktransformer.exporting import SavedModel
from ktransformer.exporting.lite.model import LiteModel

NAMES = ["a[1]", "b\\c"]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_opens_from_a_path_that_is_a_pattern(saved_model, tmp_path, name):
    shutil.copytree(saved_model, tmp_path / name / "1")
    engine = SavedModelEngine(tmp_path / name)
    engine.warmup()
    assert engine.translate(["four zero two"]) == ["402"]
    assert engine.path == tmp_path / name / "1"


def test_a_pattern_opens_no_other_model(saved_model, tmp_path):
    shutil.copytree(saved_model, tmp_path / "a*")
    shutil.copytree(saved_model, tmp_path / "ab")
    variables = tmp_path / "ab" / "variables"
    for file in variables.iterdir():
        file.write_bytes(b"another model's")
    assert SavedModelEngine(tmp_path / "a*").translate(["four zero two"]) == ["402"]


@pytest.mark.long
def test_the_commands_work_in_folders_whose_names_are_patterns(
    run_folder, data_folder, tmp_path, translate
):
    folder = tmp_path / "a[1]*?\\"
    run, export, file = folder / "run", folder / "export", folder / "x.tflite"
    shutil.copytree(run_folder, run)
    arguments = ["export", str(run), "--signatures", "serving_default"]
    assert main([*arguments, "--output", str(export)]) == 0
    assert main([*arguments, "--format", "tflite", "--output", str(file)]) == 0
    for path in (run, export, file):
        assert translate("four zero two\n", path)[:2] == (0, "402\n")
    source, target = folder / "source", folder / "target"
    shutil.copy(data_folder / "test.source", source)
    shutil.copy(data_folder / "test.target", target)
    texts = ["--source", str(source), "--reference", str(target)]
    assert main(["verify", str(export), "--run", str(run), *texts]) == 0


def test_an_open_export_says_how_another_process_gets_it(saved_model, lite_file):
    for path, opened in (
        (saved_model, SavedModel(saved_model)),
        (saved_model, SavedModelEngine(saved_model)),
        (lite_file, LiteModel(lite_file)),
        (lite_file, LiteEngine(lite_file)),
    ):
        with pytest.raises(TypeError, match=f"{type(opened).__name__} .*pickled.*{path}"):
            pickle.dumps(opened)


def test_a_translator_can_be_pickled(translator):
    translator.translate_texts(["one"])  # What is traced is left behind.
    copied = pickle.loads(pickle.dumps(ModelEngine(translator)))
    assert copied.translate(["four zero two"]) == ["402"]
