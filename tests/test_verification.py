import json

import pytest

from ktransformer.errors import InputError
from ktransformer.lite import export_lite
from ktransformer.run import Run, load_run, make_model, save_run
from ktransformer.serving import Translator
from ktransformer.text import Tokenizer
from ktransformer.verification import Tolerances, verify
from tests.serving.test_translator import with_decoding
from tests.small_run import number_pairs


@pytest.fixture(scope="module")
def pairs():
    return number_pairs(40, seed=3)


@pytest.fixture(scope="module")
def text(pairs):
    return [source for source, _ in pairs]


@pytest.fixture(scope="module")
def references(pairs):
    return [target for _, target in pairs]


@pytest.fixture(scope="module")
def report(run_folder, saved_model, lite_file, text, references):
    return verify([saved_model, lite_file], run_folder, text, references, batch_size=8)


@pytest.fixture(scope="module")
def wrong_file(run_folder, tmp_path_factory):
    """An export of the run whose weights were changed a little."""
    run = load_run(run_folder)
    for weight in run.model.weights:
        weight.assign(weight + 0.1)
    translator = Translator(run.model, run.tokenizer, run.config.decoding)
    return export_lite(translator, tmp_path_factory.mktemp("wrong") / "wrong.tflite")


def test_faithful_exports_hold_the_tolerances(report):
    assert report.broken == ()
    assert [result.kind for result in report.results] == ["run", "SavedModel", "tflite"]
    assert [result.identical for result in report.results] == [1, 1, 1]
    assert all(result.score_difference < 1e-4 for result in report.results)


def test_each_is_scored_measured_and_timed(report, lite_file):
    assert report.sentences == 40
    for result in report.results:
        assert result.chrf > 90
        assert result.milliseconds > 0
        assert result.load_seconds > 0
    assert report.results[2].bytes == lite_file.stat().st_size


def test_an_export_of_other_weights_is_found_out(run_folder, wrong_file, text, references):
    report = verify([wrong_file], run_folder, text, references, batch_size=8)
    result = report.results[1]
    assert result.identical < 0.9
    assert "of the texts are identical, at least 0.999 were to be" in report.broken[0]
    first = result.differences[0]
    assert first.source == text[first.line - 1]
    assert first.run != first.export


def test_the_report_shows_the_table_the_differences_and_the_verdict(
    report, run_folder, wrong_file, text
):
    shown = report.to_text()
    assert "| kind | size | load, s | ms a sentence | identical |" in shown
    assert shown.endswith("All tolerances hold.")
    broken = verify([wrong_file], run_folder, text, batch_size=8)
    shown = broken.to_text(differences=1)
    first = broken.results[1].differences[0]
    assert f"line {first.line}: {first.source}" in shown
    assert "BROKEN: " in shown.splitlines()[-1]
    fields = json.loads(broken.to_json())
    assert fields["results"][1]["differences"][0]["export"] == first.export


def test_a_stated_tolerance_replaces_the_default(run_folder, wrong_file, text):
    lenient = Tolerances(min_identical=0.0, max_score_difference=100.0)
    report = verify([wrong_file], run_folder, text, tolerances=lenient, batch_size=8)
    assert report.broken == ()


def test_lost_bleu_is_found_out(run_folder, wrong_file, text, references):
    # All translations are one word, so BLEU is 0: a gain is asked for, to see it missed.
    lenient = Tolerances(min_identical=0.0, max_score_difference=100.0, max_bleu_drop=-1.0)
    report = verify([wrong_file], run_folder, text, references, tolerances=lenient, batch_size=8)
    assert "BLEU are lost" in report.broken[0]


def test_scores_that_differ_are_found_out(run_folder, lite_file, text):
    strict = Tolerances(max_score_difference=-1.0)
    report = verify([lite_file], run_folder, text, tolerances=strict, batch_size=8)
    assert "scores of identical texts differ by" in report.broken[0]


def test_a_quantised_export_is_held_to_what_is_stated_and_to_bleu_alone():
    assert Tolerances().for_quantization("dynamic_int8") == {"max_bleu_drop": 0.3}
    stated = Tolerances(min_identical=0.8).for_quantization("dynamic_int8")
    assert stated == {"max_bleu_drop": 0.3, "min_identical": 0.8}
    assert Tolerances().for_quantization("none")["min_identical"] == 0.999


def test_the_run_searches_as_its_export_does(run_folder, translator, text, tmp_path):
    limited = with_decoding(translator, beam_size=1, max_target_length=3)
    file = export_lite(limited, tmp_path / "short.tflite", signatures=["serving_default"])
    report = verify([file], run_folder, text, batch_size=8)
    assert report.results[1].identical == 1


def test_exports_that_search_in_different_ways_are_verified_one_by_one(
    run_folder, lite_file, translator, text, tmp_path
):
    greedy = with_decoding(translator, beam_size=1)
    file = export_lite(greedy, tmp_path / "greedy.tflite", signatures=["serving_default"])
    with pytest.raises(InputError, match="verify them one by one"):
        verify([lite_file, file], run_folder, text)


def test_no_text_and_a_run_in_the_place_of_an_export_are_refused(run_folder, lite_file):
    with pytest.raises(InputError, match="no text to compare"):
        verify([lite_file], run_folder, [])
    with pytest.raises(InputError, match="is a run; exports of --run were to be named"):
        verify([run_folder], run_folder, ["one"])


def test_an_export_of_another_vocabulary_is_refused(run_copy, lite_file):
    run = load_run(run_copy)
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    model = make_model(run.config, tokenizer.vocabulary_size)
    save_run(Run(run.config, tokenizer, model, {}), run_copy, overwrite=True)
    with pytest.raises(InputError, match="has another vocabulary"):
        verify([lite_file], run_copy, ["one"])
