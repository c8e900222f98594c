"""`ktransformer info` and `ktransformer.load`: anything is described, or opened, or refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ktransformer
from ktransformer.cli import main
from ktransformer.engines import draw_attention
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel
from ktransformer.fitting import train
from ktransformer.inspection import inspect
from ktransformer.tasks import ImageClassifier, Task, Translator
from ktransformer.text import Tokenizer
from tests.fitting.small_training import TEXT, small
from tests.run_command import refusal


def test_a_run_is_described_with_its_scores_and_settings(run_folder, translator, capsys):
    assert main(["info", str(run_folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["form"], facts["kind"], facts["checksums"]) == ("run", "translator", "as written")
    assert facts["parameters"] == translator.model.count_params()
    assert facts["sizes"]["d_model"] == translator.model.d_model
    history = json.loads((run_folder / "model.json").read_text())["history"]
    scores = history.get("final_val_bleu") or history["val_bleu"]
    assert facts["scores"]["bleu"] == scores[-1]
    assert main(["info", str(run_folder)]) == 0
    assert f"  d_model: {translator.model.d_model}\n" in capsys.readouterr().out


def test_a_runs_folder_holds_a_card_and_curves(run_folder):
    card = (run_folder / "card.md").read_text(encoding="utf-8")
    for words in ("files: train.source", "`nrefs:1|case:mixed", "hours", "## Limits", "BLEU |"):
        assert words in card
    assert (run_folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_exports_tokenizers_models_and_states_are_told_apart(
    run_folder, saved_model, lite_file, tmp_path
):
    train(small(checkpoint_minutes=0), TEXT, checkpoints=tmp_path / "c")
    for path, form in (
        (saved_model, "SavedModel"),
        (lite_file, ".tflite"),
        (run_folder / "tokenizer.model", "tokenizer"),
        (run_folder / "model.keras", ".keras file"),
        (tmp_path / "c", "folder of a training that is not over"),
        (tmp_path / "c" / "training.npz", "state of a training"),
        (tmp_path / "c" / "epoch-0001.npz", "the weights of an epoch"),
    ):
        assert inspect(path)["form"] == form
    assert inspect(tmp_path / "c")["epochs"] == 1
    assert inspect(lite_file)["signatures"]


def test_names_within_a_file_steer_no_terminal(tmp_path, capsys):
    folder = shutil.copytree(Path(__file__).parent / "conversion/bert/model", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "\x1b[2J\nform: run": 5}))
    assert main(["info", str(folder)]) == 0
    assert "  \\x1b[2J\\nform: run: 5\n" in capsys.readouterr().out


def test_a_run_without_settings_of_decoding_is_described(run_copy):
    fields = json.loads((run_copy / "model.json").read_text())
    fields["config"]["decoding"] = None
    (run_copy / "model.json").write_text(json.dumps(fields))
    assert inspect(run_copy, check=False)["form"] == "run"


def test_a_damaged_archive_is_one_sentence(run_folder, tmp_path):
    content = bytearray((run_folder / "model.keras").read_bytes())
    content[content.rindex(b"PK\1\2")] ^= 1
    (tmp_path / "model.keras").write_bytes(content)
    for what in (inspect, ktransformer.load):
        with pytest.raises(InputError, match=r"model\.keras is a damaged archive"):
            what(tmp_path / "model.keras")


@pytest.mark.parametrize("content", [b"hello", b"", b"{}", b"PK\3\4", bytes(8) + b"TFL3"])
def test_anything_else_is_refused_in_one_sentence(content, tmp_path, capsys):
    (tmp_path / "file").write_bytes(content)
    for path in (tmp_path / "file", tmp_path / "absent", tmp_path):
        assert str(path) in refusal(capsys, "info", path)
        with pytest.raises(InputError):
            ktransformer.load(path)


def test_a_damaged_run_is_refused(run_copy, capsys):
    content = bytearray((run_copy / "tokenizer.model").read_bytes())
    content[100] ^= 1
    (run_copy / "tokenizer.model").write_bytes(content)
    assert "tokenizer.model" in refusal(capsys, "info", run_copy)


def test_load_opens_runs_exports_tokenizers_and_models(run_folder, saved_model, lite_file):
    assert isinstance(ktransformer.load(run_folder, beam_size=1), Translator)
    assert isinstance(ktransformer.load(saved_model), SavedModel)
    opened = ktransformer.load(lite_file)
    assert isinstance(opened, LiteModel)
    texts = np.array([b"four zero two"], object)
    assert opened.run("serving_default", texts=texts)["text"].tolist() == [b"402"]
    assert isinstance(ktransformer.load(run_folder / "tokenizer.model"), Tokenizer)
    assert ktransformer.load(run_folder / "model.keras").built
    with pytest.raises(InputError, match="beam_size goes with the folder of a model"):
        ktransformer.load(lite_file, beam_size=1)


def test_a_task_comes_from_a_path_or_a_preset_and_a_hub_is_one_sentence(run_folder, translator):
    assert Task.from_preset(run_folder).kind == "translator"
    assert Translator.from_preset(run_folder, beam_size=1).decoding.beam_size == 1
    with pytest.raises(InputError, match="ImageClassifier has no presets"):
        ImageClassifier.from_preset("tiny")
    fresh = Translator.from_preset("tiny", tokenizer=translator.tokenizer, num_layers=1)
    assert fresh.model.vocabulary_size == translator.tokenizer.vocabulary_size
    for wrong, message in (
        (lambda: Translator.from_preset("tiny"), "tokenizer="),
        (lambda: ImageClassifier.from_preset(run_folder), "not ImageClassifier"),
        (lambda: Translator.from_preset("hf://one"), "hf://OWNER/NAME"),
        (lambda: Translator.from_preset("hf://nobody/absent"), "hf://nobody/absent"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()


def test_attention_is_drawn(translator):
    assert draw_attention(translator, "four zero two", dpi=40).startswith(b"\x89PNG")


def test_a_backend_that_jupyter_names_and_that_is_not_installed_is_in_no_drawings_way():
    program = (
        "from ktransformer.drawing.canvas import new_figure, plain_text, to_png\n"
        "with plain_text('it'):\n    print(to_png(new_figure(1, 1, 'it'))[1:4])\n"
    )
    environment = {**os.environ, "MPLBACKEND": "module://ipympl.backend_nbagg"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "b'PNG'\n"
