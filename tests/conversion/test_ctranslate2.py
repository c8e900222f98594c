"""Translators as CTranslate2 folders: what goes, what is refused, and that nothing else changes."""

import json
import re
import sys

import numpy as np
import pytest

from ktransformer.cli import main
from ktransformer.config import DecodingConfig
from ktransformer.conversion.ctranslate2 import CTranslate2Model, export_ctranslate2
from ktransformer.conversion.ctranslate2 import export as export_module
from ktransformer.engines import CTranslate2Engine, ModelEngine, load_engine
from ktransformer.errors import InputError
from ktransformer.models import Transformer
from ktransformer.verification import Export, compare_exports
from tests.run_command import refusal
from tests.small_models import small_filler
from tests.small_run import number_pairs
from tests.small_translator import TEXTS, drawn_translator, with_decoding

OPTIONS = [
    {},
    {"norm_first": True, "num_decoder_layers": 2, "scale_embeddings": False},
    {"norm": "rms", "feed_forward": "swiglu", "use_bias": False, "positions": "rotary"},
    {"norm": "rms", "norm_first": True, "feed_forward": "geglu", "tie_embeddings": False},
    {"num_kv_heads": 2, "positions": "learned", "activation": "gelu"},
    {"num_kv_heads": 1, "positions": "none", "activation": "silu", "epsilon": 0.01},
    {"positions": "sinusoidal_interleaved", "activation": "tanh", "source_vocabulary_size": 1},
    {"activation": "sigmoid", "dtype": "mixed_bfloat16", "output_bias": True},
]


@pytest.fixture(scope="module")
def folder(run_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("ctranslate2") / "numbers"
    export = ["export", str(run_folder), "--format", "ctranslate2", "--output", str(output)]
    assert main([*export, "--source-label", "number words"]) == 0
    return output


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_model_of_every_option_gives_the_same_log_probabilities(options, tmp_path):
    # The export compares those of each token of some texts before the folder takes its name.
    path = export_ctranslate2(drawn_translator(**options), tmp_path / "model")
    assert CTranslate2Model(path).run("serving_default", texts=TEXTS)["text"].shape == (len(TEXTS),)


def test_a_conversion_with_other_scores_leaves_nothing_behind(tmp_path, monkeypatch):
    def make_wrong_spec(*arguments):
        spec = make_spec(*arguments)
        spec.encoder.position_encodings.encodings[1] += 0.1
        return spec

    make_spec = export_module.make_spec
    monkeypatch.setattr(export_module, "make_spec", make_wrong_spec)
    with pytest.raises(InputError, match="scores"):
        export_ctranslate2(drawn_translator(), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_all_that_has_no_counterpart_is_refused_at_once(tmp_path):
    class Mine(Transformer):
        """A Transformer that might compute anything."""

    decoding = DecodingConfig(
        coverage_penalty=0.1, min_length=3, no_repeat_ngram_size=2, early_stopping=False
    )
    translator = drawn_translator(decoding, model_class=Mine, positions="alibi", activation="elu")
    every = "Mine.*positions.*ALiBi.*activation.*elu.*min_length.*3.*no_repeat.*2.*coverage.*0.1"
    every += ".*early_stopping.*False"
    with pytest.raises(InputError, match=every):
        export_ctranslate2(translator, tmp_path / "model")


def test_another_kind_of_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="masked language model"):
        export_ctranslate2(small_filler(), tmp_path / "model")


def test_the_folder_gives_the_texts_and_scores_of_the_run_without_max_repeats(folder, translator):
    texts = [*TEXTS, *(source for source, _ in number_pairs(100, seed=5))]
    ours = ModelEngine(translator.with_settings(max_repeats=0))
    theirs = load_engine(folder, concurrency=2)
    assert theirs.description.decoding.max_repeats == 0
    assert type(theirs) is CTranslate2Engine
    expected, got = ours.translate_n_best(texts, n_best=2), theirs.translate_n_best(texts, n_best=2)
    for line, other in zip(expected, got, strict=True):
        assert (other.texts, other.truncated) == (line.texts, line.truncated)
        assert other.scores == pytest.approx(line.scores, abs=1e-3)


def test_the_folder_translates_documents_as_the_run_does(folder, run_folder):
    document = "one two. four!\r\n\n  " + "nine three " * 20
    expected, found = (
        [each.text for each in load_engine(path).translate_document([document, "", "seven"])]
        for path in (run_folder, folder)
    )
    assert found == expected


def test_a_repetition_penalty_gives_the_same_texts_and_scores(translator, tmp_path):
    penalized = with_decoding(translator, repetition_penalty=3.0)
    path = export_ctranslate2(penalized, tmp_path / "model")
    texts = [source for source, _ in number_pairs(30, seed=6)]
    expected = penalized.translate_texts(texts)
    assert (
        expected["text"].numpy().tolist()
        != translator.translate_texts(texts)["text"].numpy().tolist()
    )
    found = CTranslate2Model(path).run("serving_default", texts=texts)
    assert found["text"].tolist() == expected["text"].numpy().tolist()
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-3)


def test_verify_compares_it_with_the_run(folder, run_folder, data_folder, capsys):
    arguments = ["--run", run_folder, "--source", data_folder / "test.source"]
    assert main(["verify", *map(str, [folder, *arguments])]) == 0
    assert re.search("serving_default .* CTranslate2 .* 1.0000 ", capsys.readouterr().out)


def test_verify_leaves_its_lower_hypotheses_alone(folder, translator):
    export = Export(folder)
    checks = translator.signature_checks(export.description, export.form)
    assert [check.signature for check in checks] == ["serving_default", "beam"]
    report = compare_exports(translator, [export], ["four zero two", "nine"])
    assert {result.signature for result in report.results} == {"serving_default"}


def test_translate_runs_it(folder, translate):
    assert translate("four zero two\n", folder)[:2] == (0, "402\n")


@pytest.mark.parametrize("beam_size", [1, 3])
def test_an_empty_translation_is_one_where_it_is_the_best(beam_size, tmp_path):
    translator = drawn_translator(
        DecodingConfig(beam_size=beam_size), norm_first=True, tie_embeddings=False
    )
    end = translator.target_tokenizer.special_ids.end
    kernel = np.zeros(translator.model.output_embedding.kernel.shape)
    kernel[:, end] = 0.5
    translator.model.decoder.final_norm.beta.assign(np.ones(32))
    translator.model.output_embedding.kernel.assign(kernel)
    path = export_ctranslate2(translator, tmp_path / "model")
    found = CTranslate2Model(path).run("serving_default", texts=["one two"])
    expected = translator.translate_texts(["one two"])
    assert found["text"].tolist() == expected["text"].numpy().tolist() == [b""]
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-3)


@pytest.mark.parametrize("quantization", ["float16", "int8"])
def test_fewer_bits_take_less_room_and_give_the_same_digits(
    quantization, folder, translator, tmp_path
):
    path = export_ctranslate2(translator, tmp_path / "model", quantization=quantization)
    small, whole = ((each / "model.bin").stat().st_size for each in (path, folder))
    assert small < (0.6 if quantization == "float16" else 0.4) * whole
    assert load_engine(path).translate(["four zero two", "nine"]) == ["402", "9"]


def test_it_describes_itself(folder, translator):
    about = json.loads((folder / "ktransformer.json").read_text())
    assert (about["source_label"], about["quantization"]) == ("number words", "none")
    config = json.loads((folder / "config.json").read_text())
    assert (config["decoder_start_token"], config["add_source_eos"]) == ("<s>", True)
    pieces = json.loads((folder / "shared_vocabulary.json").read_text())
    assert pieces == translator.tokenizer.pieces(range(len(pieces)))


def test_a_damaged_or_foreign_folder_is_refused(folder, tmp_path, capsys):
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=f"{tmp_path} .*ktransformer"):
        load_engine(tmp_path)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = bytearray((folder / "model.bin").read_bytes())
    content[-100] ^= 1
    (tmp_path / "model.bin").write_bytes(content)
    assert "model.bin" in refusal(capsys, "translate", tmp_path)


def test_an_existing_folder_is_replaced_only_if_told_and_only_ours(folder, translator, tmp_path):
    output = tmp_path / "model"
    for overwrite in (False, True):
        export_ctranslate2(translator, output, overwrite=overwrite)
    with pytest.raises(InputError, match="--overwrite"):
        export_ctranslate2(translator, output)
    (output / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"thesis\.tex"):
        export_ctranslate2(translator, output, overwrite=True)


def test_a_missing_package_is_named(run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    output = ["--format", "ctranslate2", "--output", tmp_path / "model"]
    assert re.search(r"ktransformer\[ctranslate2\]", refusal(capsys, "export", run_folder, *output))


def test_options_of_other_formats_are_refused(run_folder, tmp_path, capsys):
    export = ["export", run_folder, "--format", "ctranslate2", "--output", tmp_path / "model"]
    for option in (["--signatures", "ids"], ["--batch-size", 2], ["--batch-requests", 3]):
        assert re.search(f"{option[0]}.*--format", refusal(capsys, *export, *option))
    quantize = refusal(capsys, *export, "--quantize", "dynamic_int8")
    assert re.search("dynamic_int8.*--format tflite.*ctranslate2", quantize)


def test_other_settings_than_the_exported_ones_are_refused(folder):
    with pytest.raises(InputError, match="beam size"):
        load_engine(folder, beam_size=7)


def test_a_shorter_limit_cuts_the_source(run_folder, translator, tmp_path):
    short = with_decoding(translator, max_source_length=4)
    path = export_ctranslate2(short, tmp_path / "model")
    (found,) = load_engine(path).translate_n_best(["one two three four five six"])
    (expected,) = short.translate_texts(["one two three four five six"])["text"].numpy().tolist()
    assert (found.text.encode(), found.truncated) == (expected, True)
