"""Translators as Marian folders; `check_huggingface.py` runs one with transformers itself."""

import dataclasses
import json
import re

import numpy as np
import pytest
import safetensors.numpy

from ktransformer.cli import main
from ktransformer.config import DecodingConfig
from ktransformer.conversion import import_published
from ktransformer.conversion.dropped_rules import without_loop_rule
from ktransformer.conversion.huggingface import export_huggingface
from ktransformer.errors import InputError
from tests.run_command import refusal
from tests.small_models import small_filler
from tests.small_translator import drawn_translator


def read(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("huggingface") / "model"
    translator = drawn_translator(
        DecodingConfig(beam_size=3, length_penalty=0.6), output_bias=True, activation="silu"
    )
    return export_huggingface(translator, path, source_label="en", target_label="de"), translator


def test_the_rule_against_loops_is_left_out_with_a_warning(folder, caplog):
    _, translator = folder
    found = without_loop_rule(translator.with_settings(max_repeats=3), "Hugging Face")
    assert found.decoding == dataclasses.replace(translator.decoding, max_repeats=0)
    assert "Hugging Face has no max_repeats" in caplog.text
    assert without_loop_rule(translator, "Hugging Face") is translator


def test_the_ids_are_those_of_other_marian_folders(folder):
    path, translator = folder
    vocabulary, config = read(path, "vocab.json"), read(path, "config.json")
    size = translator.model.vocabulary_size - 1  # Decoding starts from the padding.
    assert sorted(vocabulary.values()) == list(range(size)) == list(range(config["vocab_size"]))
    assert [vocabulary[text] for text in ("</s>", "<unk>", "<pad>")] == [0, 1, size - 1]
    assert "<s>" not in vocabulary
    names = ("eos_token_id", "pad_token_id", "decoder_start_token_id")
    assert [config[name] for name in names] == [0, size - 1, size - 1]


def test_the_rows_of_the_table_and_of_the_bias_follow_the_ids(folder):
    path, translator = folder
    tensors = safetensors.numpy.load_file(path / "model.safetensors")
    table, bias = tensors["model.shared.weight"], tensors["final_logits_bias"]
    vocabulary, model = read(path, "vocab.json"), translator.model
    ours = {text: i for i, text in enumerate(translator.tokenizer.pieces(range(len(table) + 1)))}
    assert bias.shape == (1, len(table))
    for text in ("</s>", "<unk>", "▁one", "▁seven"):
        row = vocabulary[text]
        np.testing.assert_array_equal(table[row], model.source_embedding.embeddings[ours[text]])
        np.testing.assert_array_equal(bias[0, row], model.output_bias_weight[ours[text]])


def test_the_start_is_part_of_the_first_position(folder):
    # CTranslate2's converter sets the vector of Marian's padding to 0.
    path, translator = folder
    tensors = safetensors.numpy.load_file(path / "model.safetensors")
    table, positions = (
        tensors["model.shared.weight"],
        tensors["model.decoder.embed_positions.weight"],
    )
    start = translator.tokenizer.special_ids.start
    expected = translator.model.target_embedding.embed(np.array([[start, start]]))[0, 0]
    np.testing.assert_allclose(table[-1] + positions[0], expected, atol=1e-6)
    assert not table[-1].any()


def test_the_settings_of_the_search_are_those_of_generate(folder):
    path, translator = folder
    settings = read(path, "generation_config.json")
    assert (settings["num_beams"], settings["length_penalty"]) == (3, 0.6)
    assert settings["early_stopping"] is True
    assert settings["bad_words_ids"] == [[settings["pad_token_id"]], [1]]
    assert settings["max_length"] == translator.max_target_length + 1


def test_the_command_writes_it_with_the_languages(run_folder, tmp_path, capsys):
    output = tmp_path / "model"
    export = ["export", str(run_folder), "--format", "huggingface", "--output", str(output)]
    assert main([*export, "--source-label", "en", "--target-label", "de"]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    settings = read(output, "tokenizer_config.json")
    assert (settings["source_lang"], settings["target_lang"]) == ("en", "de")
    assert (output / "source.spm").read_bytes() == (run_folder / "tokenizer.model").read_bytes()
    assert main([*export, "--overwrite"]) == 0


def test_all_that_is_not_of_the_form_is_refused_at_once(tmp_path):
    translator = drawn_translator(
        DecodingConfig(repetition_penalty=1.2),
        norm_first=True,
        norm="rms",
        feed_forward="swiglu",
        positions="sinusoidal_interleaved",
        tie_embeddings=False,
        use_bias=False,
        epsilon=1e-6,
        num_kv_heads=2,
        activation="elu",
    )
    names = ["norm_first", "norm", "feed_forward", "positions", "tie_embeddings", "use_bias"]
    every = ".*".join([*names, "epsilon", "num_kv_heads.*4.*2", "activation.*elu", "repetition"])
    with pytest.raises(InputError, match=every):
        export_huggingface(translator, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_imported_again_has_equal_weights_and_texts(folder):
    path, translator = folder
    task = import_published(path).task
    for weight, other in zip(translator.model.weights, task.model.weights, strict=True):
        ours, theirs = np.array(weight), np.array(other)
        if "output_bias" in weight.path:
            theirs[2] = ours[2]  # The start, which is never chosen.
        if "embeddings" in weight.path:
            theirs[0] = ours[0]  # The padding, which nothing reads.
        np.testing.assert_allclose(theirs, ours, atol=1e-6)
    assert task.decoding.suppress_unknown
    # Of the limit of a text, and of how it ends there, `generate` has rules of its own.
    task = task.with_settings(**dataclasses.asdict(translator.decoding))
    texts = ["one two three", "seven", "", "qqq four"]
    expected = translator.translate_texts(texts)["text"].numpy().tolist()
    assert task.translate_texts(texts)["text"].numpy().tolist() == expected


def test_another_kind_of_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="masked language model"):
        export_huggingface(small_filler(), tmp_path / "model")


@pytest.mark.long
def test_verify_compares_the_folder_with_the_run(run_folder, data_folder, tmp_path, capsys):
    output = tmp_path / "model"
    export = ["export", run_folder, "--format", "huggingface", "--output", output]
    assert main([*map(str, export)]) == 0
    verify = ["verify", output, "--run", run_folder, "--source", data_folder / "test.source"]
    # There the start and the padding are one token, of another logit, which counts in few pieces.
    assert main([*map(str, verify), "--max-score-difference", "0.05"]) == 0
    report = capsys.readouterr().out
    assert re.search("serving_default .* Hugging Face .* 1.0000 ", report)
    assert not re.search("ids .* Hugging Face", report)  # They are numbered anew there.


def test_verify_refuses_a_folder_of_a_longer_model(run_folder, data_folder, capsys, folder):
    source = data_folder / "test.source"
    message = refusal(capsys, "verify", folder[0], "--run", run_folder, "--source", source)
    assert re.search("max_source_length.*24.*30", message)


def test_translate_runs_the_folder(folder, translate):
    path, _ = folder
    (text,) = import_published(path).task.translate_texts(["one two three"])["text"].numpy()
    assert translate("one two three\n", path)[1] == f"{text.decode()}\n"
