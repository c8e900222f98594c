"""`ktransformer train --from`, and `--adapter` of the commands that open a run."""

import re

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.saving.run import load_run
from tests.run_command import command, refusal


@pytest.fixture(scope="module")
def arguments(run_folder, data_folder):
    """Fine-tunes the small run on its test text."""
    sides = "--source", data_folder / "test.source", "--target", data_folder / "test.target"
    return ["train", "--from", run_folder, *sides]


def test_a_run_is_fine_tuned_and_its_adapter_translates_as_the_run_does(
    arguments, run_folder, data_folder, tmp_path, capsys
):
    adapter, output = tmp_path / "adapter.npz", tmp_path / "tuned"
    base = load_run(run_folder)
    same = f"max_repeats={base.config.decoding.max_repeats}"
    settings = [
        word
        for setting in ("epochs=2", "lora_rank=2", "learning_rate=0.5", same)
        for word in ("--set", setting)
    ]
    words = [*arguments, "--output", output, "--adapter", adapter, *settings]
    assert main([str(word) for word in words]) == 0
    tuned = load_run(output)
    assert tuned.config.model == base.config.model
    assert tuned.config.decoding == base.config.decoding
    assert tuned.tokenizer.model == base.tokenizer.model
    assert tuned.config.training.epochs == 2
    assert tuned.config.training.optimizer == "adam"
    assert adapter.stat().st_size < (output / "model.keras").stat().st_size / 4
    capsys.readouterr()
    evaluate = ("--source", data_folder / "test.source", "--reference", data_folder / "test.target")
    scores = []
    for model in ([output], [run_folder, "--adapter", adapter], [run_folder]):
        assert main([str(word) for word in ("evaluate", *model, *evaluate)]) == 0
        scores.append(capsys.readouterr().out)
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--preset", "base"), "must be 1, .*num_layers=6"),
        (("--set", "d_model=32"), "must be 64, .*d_model=32"),
        (("--set", "shared_vocabulary=false"), "shared_vocabulary=False"),
        (("--adapter", "a.npz"), r"lora_rank above 0.*a\.npz"),
        (("--set", "freeze=decoders"), "freeze.*encoder.*'decoders'"),
    ],
)
def test_what_does_not_go_with_the_run_is_refused(options, rule, arguments, tmp_path, capsys):
    message = refusal(capsys, *arguments, "--output", tmp_path / "tuned", *options)
    assert re.search(rule, message)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_not_fine_tuned(data_folder, tmp_path, capsys):
    sides = "--source", data_folder / "test.source", "--target", data_folder / "test.target"
    words = ("train", "--from", tmp_path, *sides, "--output", tmp_path / "tuned")
    assert str(tmp_path) in refusal(capsys, *words)


def test_an_adapter_on_an_export_is_refused(data_folder, tmp_path, capsys):
    (tmp_path / "digits.tflite").touch()
    words = ("evaluate", tmp_path / "digits.tflite", "--adapter", "a.npz")
    sides = "--source", data_folder / "test.source", "--reference", data_folder / "test.target"
    assert "a.npz" in refusal(capsys, *words, *sides)


@pytest.mark.long
@pytest.mark.parametrize("setting", ["freeze=embeddings,encoder", "lora_rank=2"])
def test_frozen_weights_do_not_move_on_two_devices(setting, arguments, run_folder, tmp_path):
    settings = ("--set", setting, "--set", "epochs=2", "--set", "weight_decay=0.1")
    result = command(*arguments, "--output", tmp_path / "tuned", *settings, "--devices", 2)
    assert result.returncode == 0, result.stderr.decode()
    base, tuned = load_run(run_folder).model, load_run(tmp_path / "tuned").model
    table = (model.source_embedding.get_weights()[0] for model in (base, tuned))
    np.testing.assert_array_equal(*table)
    before, after = (model.decoder.get_weights() for model in (base, tuned))
    assert any(np.any(a != b) for a, b in zip(before, after, strict=True))
