"""A published folder becomes a folder of ours, or one sentence says all that is in the way."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import ktransformer
from ktransformer.cli import main
from ktransformer.conversion import (
    Imported,
    Settings,
    Weight,
    load_weights,
    register_family,
    registry,
)
from ktransformer.conversion.weight_table import transposed
from ktransformer.errors import InputError
from ktransformer.tasks import MaskFiller
from tests.run_command import refusal
from tests.small_models import small_filler


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A published folder of a toy family: the weights of a small mask filler, transposed."""
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    filler = small_filler()
    folder = tmp_path / "toy"
    folder.mkdir()
    tensors = {
        weight.path.partition("/")[2]: np.array(weight).T.copy() for weight in filler.model.weights
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "num_layers": 2}))

    @register_family("toy")
    def convert(published, problems):
        settings = Settings(published.config, problems)
        settings.take_int("num_layers")
        settings.require("is_strange", False, why="a strange model is unknown here")
        settings.finish()
        problems.raise_if_any(published.path)
        model = type(filler.model).from_config(filler.model.get_config())
        model.build()
        paths = {
            id(weight): other.path.partition("/")[2]
            for weight, other in zip(model.weights, filler.model.weights, strict=True)
        }
        table = [
            Weight(f"weights.{i}", (paths[id(weight)],), transposed)
            for i, weight in enumerate(model.weights)
        ]
        load_weights(model, table, published.tensors, problems)
        return Imported(MaskFiller(model, filler.tokenizer), notes=("Toys have no sound.",))

    return folder, filler


def test_the_command_writes_a_folder_that_computes_the_same(toy, tmp_path, capsys, caplog):
    folder, filler = toy
    output = tmp_path / "imported"
    assert main(["import", str(folder), "--output", str(output)]) == 0
    assert (
        capsys.readouterr().out
        == f"masked language model: {filler.model.count_params():,} parameters\n"
    )
    assert "Toys have no sound." in caplog.text
    texts = ["one two <mask>"]
    expected = filler.fill_texts(texts)["probability"]
    for path in (output, folder):
        found = ktransformer.load(path, top_k=3).fill_texts(texts)["probability"]
        np.testing.assert_array_equal(found, expected)
    assert "already" in refusal(capsys, "import", folder, "--output", output)
    assert main(["import", str(folder), "--output", str(output), "--overwrite"]) == 0


def test_all_that_is_wrong_stands_in_one_sentence(toy, tmp_path, capsys):
    folder, _ = toy
    config = {"model_type": "toy", "is_strange": True, "hidden": 3}
    (folder / "config.json").write_text(json.dumps(config))
    sentence = refusal(capsys, "import", folder, "--output", tmp_path / "x")
    for named in ("lacks num_layers", "a strange model", "hidden"):
        assert named in sentence
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"model_type": "tyo"}', "'toy'"),
        (b'{"model_type": ["toy"]}', "toy"),
        (b"{}", "model_type"),
        (b"[1]", "config.json"),
        (b"{" * 100_000, "config.json"),
        (b"\xff\xfe", "config.json"),
        (b"", "config.json"),
    ],
)
def test_a_folder_of_an_unknown_family_is_refused(toy, content, named, tmp_path, capsys):
    folder, _ = toy
    (folder / "config.json").write_bytes(content)
    assert named in refusal(capsys, "import", folder, "--output", tmp_path / "x")


def test_a_folder_without_a_configuration_is_refused(tmp_path, capsys):
    assert "config.json" in refusal(capsys, "import", tmp_path, "--output", tmp_path / "x")
    assert "missing" in refusal(capsys, "import", tmp_path / "missing", "--output", tmp_path / "x")


def test_generation_settings_of_an_old_configuration_are_taken(toy):
    folder, _ = toy
    old = {"model_type": "toy", "num_layers": 2, "num_beams": 4, "max_length": 512}
    (folder / "config.json").write_text(json.dumps(old))
    (folder / "generation_config.json").write_text(json.dumps({"num_beams": 6}))
    published = ktransformer.conversion.PublishedFolder(folder)
    assert published.config == {"model_type": "toy", "num_layers": 2}
    assert published.generation_config == {"num_beams": 6, "max_length": 512}


def test_a_family_is_registered_once(toy):
    with pytest.raises(ValueError, match="toy"):
        register_family("toy")(lambda folder, problems: None)


def test_a_masked_language_model_is_no_run(toy):
    folder, _ = toy
    with pytest.raises(InputError, match="masked language model"):
        ktransformer.conversion.open_run(folder)
