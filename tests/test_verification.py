import dataclasses
import json
import math

import pytest

from ktransformer.engines import Translation
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite
from ktransformer.saving.run import Run, load_run, make_model, save_run
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from ktransformer.verification.tolerances import Tolerances, check_demands
from ktransformer.verification.translators import Report, Result, _broken, _differences, verify
from tests.small_run import number_pairs
from tests.small_translator import with_decoding


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
    path = tmp_path_factory.mktemp("wrong") / "wrong.tflite"
    return export_lite(translator, path, signatures=["serving_default"])


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


def result(**changes) -> Result:
    fields = {"name": "x", "kind": "tflite", "bytes": 1, "load_seconds": 1.0, "milliseconds": 1.0}
    return Result(**{**fields, "bleu": 30.0, "chrf": 50.0, **changes})


LIMITS = {"min_identical": 0.9, "max_score_difference": 0.01, "max_bleu_drop": 0.3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bleu": 29.6}, "0.40 BLEU are lost, at most 0.3 were allowed"),
        ({"bleu": float("nan")}, "BLEU are lost"),
        ({"identical": 0.89}, "0.8900 of the texts are identical, at least 0.9 were to be"),
        ({"score_difference": 0.02}, "differ by 0.020000, at most 0.01 was allowed"),
        ({"score_difference": float("nan")}, "differ by nan"),
    ],
)
def test_each_tolerance_is_broken_by_what_is_beyond_it(changes, words):
    (broken,) = _broken(result(**changes), result(), LIMITS)
    assert words in broken


@pytest.mark.parametrize(
    "changes", [{}, {"bleu": 29.8}, {"bleu": 31.0}, {"identical": 0.9}, {"score_difference": 0.01}]
)
def test_each_tolerance_holds_up_to_itself(changes):
    assert _broken(result(**changes), result(), LIMITS) == ()


def test_scores_of_zero_prove_nothing_of_a_quantised_export():
    zero = result(bleu=0.0, chrf=0.0, exact_match=0.0)
    (broken,) = _broken(zero, zero, {"max_bleu_drop": 0.3})
    assert "nothing was demanded" in broken
    assert "BLEU 0.00, chrF 0.00, exact matches 0.00" in broken
    assert _broken(zero, zero, {"max_bleu_drop": 0.3, "min_identical": 0.9}) == ()
    low = result(bleu=0.25, chrf=0.2, exact_match=0.003)
    (broken,) = _broken(zero, low, {"max_bleu_drop": 0.3})
    assert "BLEU 0.25, chrF 0.20, exact matches 0.30" in broken


def test_chrf_and_exact_matches_decide_where_references_are_too_short_for_bleu():
    run = result(bleu=0.0, chrf=80.0, exact_match=0.75)
    limits = {"max_bleu_drop": 0.3}
    assert _broken(result(bleu=0.0, chrf=79.8, exact_match=0.748), run, limits) == ()
    broken = _broken(result(bleu=0.0, chrf=79.0, exact_match=0.74), run, limits)
    assert broken == (
        "x: 1.00 chrF are lost, at most 0.3 were allowed.",
        "x: 1.00 exact matches are lost, at most 0.3 were allowed.",
    )
    (broken,) = _broken(result(bleu=0.0, chrf=math.nan, exact_match=0.75), run, limits)
    assert "chrF are lost" in broken


def test_bleu_alone_decides_where_there_is_one():
    run = result(bleu=30.0, chrf=80.0, exact_match=0.2)
    other = result(bleu=30.0, chrf=70.0, exact_match=0.1)
    assert _broken(other, run, {"max_bleu_drop": 0.3}) == ()


def test_scores_of_no_text_prove_nothing():
    other = result(identical=0.0, score_difference=0.0)
    limits = {"max_score_difference": 0.01, "max_bleu_drop": 0.3}
    assert _broken(other, result(), limits) == (
        "x: no text is identical, so there were no scores to compare.",
    )
    assert _broken(other, result(), {**limits, "min_identical": 0.0}) == ()


def test_differences_are_counted_over_texts_and_scores_over_identical_ones():
    def line(text: str, score: float) -> Translation:
        return Translation([text], [score], False)

    expected = [line("a", -1.0), line("b", -2.0), line("c", -3.0), line("d", -4.0)]
    found = [line("a", -1.25), line("x", -9.0), line("c", -3.0), line("d", -4.0)]
    compared = _differences(["A", "B", "C", "D"], expected, found)
    assert compared["identical"] == 0.75
    assert compared["score_difference"] == 0.25
    (difference,) = compared["differences"]
    assert (difference.line, difference.source) == (2, "B")
    assert (difference.run, difference.export) == ("b", "x")


def test_a_score_that_is_no_number_is_seen():
    lines = [Translation(["a"], [score], False) for score in (1.0, float("nan"))]
    compared = _differences(["A", "A"], [lines[0], lines[0]], lines)
    assert math.isnan(compared["score_difference"])
    report = Report(2, 0, 1, None, (result(**compared),))
    assert json.loads(report.to_json())["results"][0]["score_difference"] is None


@pytest.mark.parametrize(
    "options",
    [{"min_identical": 2.0}, {"max_score_difference": math.nan}, {"max_bleu_drop": -1.0}],
)
def test_a_tolerance_outside_its_range_is_refused(options):
    with pytest.raises(InputError, match="must be"):
        Tolerances(**options)


@pytest.mark.long
def test_a_quantised_export_of_which_nothing_is_demanded_is_refused(
    run_folder, translator, text, tmp_path
):
    how = {"signatures": ["serving_default"], "quantization": "dynamic_int8"}
    file = export_lite(translator, tmp_path / "int8.tflite", **how)
    with pytest.raises(InputError, match=r"for it is quantised: give --reference, --min-identical"):
        verify([file], run_folder, text)
    stated = Tolerances(min_identical=0.5)
    assert verify([file], run_folder, text, tolerances=stated, batch_size=8).broken == ()


def test_an_export_with_a_shortlist_is_not_called_quantised(translator):
    export = dataclasses.replace(translator.describe(("serving_default",)), shortlist=9)
    with pytest.raises(InputError, match="Of m nothing would be demanded, for it has a shortlist:"):
        check_demands("m", export, Tolerances())
    check_demands("m", export, Tolerances(max_score_difference=0.1))
    check_demands("m", dataclasses.replace(export, shortlist=None), Tolerances())


@pytest.mark.long
def test_a_file_of_ids_is_verified_too(run_folder, translator, text, tmp_path):
    file = export_lite(translator, tmp_path / "ids.tflite", signatures=["ids"], batch_size=1)
    report = verify([file], run_folder, text, batch_size=8)
    assert report.results[1].identical == 1


def test_a_quantised_export_is_held_to_what_is_stated_and_to_bleu_alone(translator):
    exact = translator.describe(("serving_default",))
    int8 = dataclasses.replace(exact, quantization="dynamic_int8")
    assert Tolerances().of(int8) == {"max_bleu_drop": 0.3}
    assert Tolerances().of(dataclasses.replace(exact, shortlist=9)) == {"max_bleu_drop": 0.3}
    stated = Tolerances(min_identical=0.8).of(int8)
    assert stated == {"max_bleu_drop": 0.3, "min_identical": 0.8}
    assert Tolerances().of(exact)["min_identical"] == 0.999


@pytest.mark.long
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


def test_an_export_of_another_tokenizer_is_refused(run_copy, lite_file):
    run = load_run(run_copy)
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    model = make_model(run.config, tokenizer.vocabulary_size)
    save_run(Run(run.config, tokenizer, model, {}), run_copy, overwrite=True)
    with pytest.raises(InputError, match="has another tokenizer than"):
        verify([lite_file], run_copy, ["one"])
