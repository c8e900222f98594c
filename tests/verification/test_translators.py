"""Exports of a run are verified against it."""

import pytest

from ktransformer.errors import InputError
from ktransformer.exporting import export_lite
from ktransformer.saving.run import Run, load_run, make_model, save_run
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from ktransformer.verification import Export, Tolerances, compare_exports, verify
from tests.small_run import number_pairs, write_pairs

PAIRS = number_pairs(40, seed=3)
TEXTS = [source for source, _ in PAIRS]
MAIN = ("serving_default",)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Files of sources and references."""
    return write_pairs(tmp_path_factory.mktemp("texts"), "texts", PAIRS)


@pytest.fixture(scope="module")
def report(run_folder, saved_model, lite_file, sides):
    return verify([saved_model, lite_file], run_folder, *sides, batch_size=8)


@pytest.fixture(scope="module")
def wrong_file(run_folder, tmp_path_factory):
    """An export of the run whose weights were changed a little."""
    run = load_run(run_folder)
    for weight in run.model.weights:
        weight.assign(weight + 0.1)
    translator = Translator(run.model, run.tokenizer, run.config.decoding)
    path = tmp_path_factory.mktemp("wrong") / "wrong.tflite"
    return export_lite(translator, path, signatures=MAIN)


def compare(translator, *files, texts=TEXTS, **options):
    return compare_exports(translator, [Export(file) for file in files], texts, **options)


def test_faithful_exports_hold_the_tolerances(report):
    assert report.broken == ()
    assert [(r.signature, r.kind) for r in report.results] == [
        ("serving_default", "model"),
        ("serving_default", "SavedModel"),
        ("serving_default", "tflite"),
        ("beam", "SavedModel"),
        ("beam", "tflite"),
        ("ids", "SavedModel"),
        ("ids", "tflite"),
        ("document", "SavedModel"),
        ("document", "tflite"),
        ("sentences", "SavedModel"),
        ("sentences", "tflite"),
        ("annotate", "SavedModel"),
        ("score", "SavedModel"),
    ]
    assert all(r.identical == 1 and r.difference < 1e-4 for r in report.results)


def test_each_is_scored_measured_and_timed(report, lite_file):
    assert report.examples == 40
    for result in report.results[:3]:
        assert result.scores.chrf > 90
        assert result.milliseconds > 0
        assert result.load_seconds > 0
        assert result.bytes > 0
    assert report.results[2].bytes == lite_file.stat().st_size
    assert all(result.scores is None for result in report.results[3:])


def test_an_export_of_other_weights_is_found_out(translator, wrong_file):
    report = compare(translator, wrong_file, batch_size=8)
    result = report.results[1]
    assert result.identical < 0.9
    assert "are identical, fewer than 0.999" in report.broken[0]
    first = result.differences[0]
    assert first.source == TEXTS[first.line - 1]
    assert first.model == translator.translate_texts([first.source])["text"][0].numpy().decode()
    assert first.model != first.export
    assert f"line {first.line}: {first.source}" in report.to_text(differences=1)


def test_a_stated_tolerance_replaces_the_default(translator, wrong_file):
    lenient = Tolerances(min_identical=0.0, max_score_difference=100.0)
    assert compare(translator, wrong_file, tolerances=lenient, batch_size=8).broken == ()


def test_an_n_best_list_in_another_order_breaks_the_tolerances(translator, lite_file, monkeypatch):
    run = Export.run

    def reversed_texts(self, signature, inputs):
        outputs = run(self, signature, inputs)
        if signature == "beam":
            outputs["text"] = outputs["text"][:, ::-1]
        return outputs

    monkeypatch.setattr(Export, "run", reversed_texts)
    (broken,) = compare(translator, lite_file, texts=["four zero two", "nine one"]).broken
    assert ", beam: " in broken


@pytest.mark.long
def test_a_quantised_export_is_held_to_what_is_stated(translator, tmp_path):
    file = tmp_path / "int8.tflite"
    export_lite(
        translator, file, signatures=("serving_default", "beam"), quantization="dynamic_int8"
    )
    with pytest.raises(InputError, match=r"int8\.tflite .*--reference, --min-identical"):
        compare(translator, file)
    stated = Tolerances(min_identical=0.5)
    report = compare(translator, file, tolerances=stated, batch_size=8)
    assert report.broken == ()
    assert [result.signature for result in report.results[1:]] == ["serving_default"]


@pytest.mark.long
@pytest.mark.parametrize("name", ["ids", "beam"])
def test_a_file_without_the_default_signature_is_scored_too(name, translator, tmp_path):
    file = export_lite(translator, tmp_path / "m.tflite", signatures=[name], batch_size=1)
    references = [target for _, target in PAIRS]
    report = compare(translator, file, references=references, batch_size=8)
    assert report.results[1].identical == 1
    assert report.results[1].scores.chrf > 90


@pytest.mark.long
def test_the_model_takes_the_settings_of_its_export(translator, tmp_path):
    limited = translator.with_settings(beam_size=1, max_target_length=3)
    file = export_lite(limited, tmp_path / "short.tflite", signatures=MAIN)
    assert compare(translator, file, batch_size=8).results[1].identical == 1


@pytest.mark.long
def test_exports_that_differ_in_their_settings_are_verified_one_by_one(
    lite_file, translator, tmp_path
):
    greedy = translator.with_settings(beam_size=1)
    file = export_lite(greedy, tmp_path / "greedy.tflite", signatures=MAIN)
    with pytest.raises(InputError, match="differ in beam_size:"):
        compare(translator, lite_file, file)


@pytest.mark.parametrize(("signatures", "reason"), [(["encode"], "only encode"), (["ids"], "")])
def test_what_cannot_be_compared_is_refused(signatures, reason, translator, tmp_path):
    file = export_lite(translator, tmp_path / "m.tflite", signatures=signatures)
    texts = TEXTS if reason else []
    with pytest.raises(InputError, match=reason or "no example"):
        compare(translator, file, texts=texts)


def test_no_export_is_nothing_to_compare(translator, run_folder, sides):
    for verified in (
        lambda: verify([], run_folder, sides[0]),
        lambda: compare_exports(translator, [], TEXTS),
    ):
        with pytest.raises(InputError, match="There is no export to compare"):
            verified()


def test_a_run_in_the_place_of_an_export_is_refused(run_folder, sides):
    with pytest.raises(InputError, match="run is the folder of a model"):
        verify([run_folder], run_folder, sides[0])


def test_references_of_another_number_are_refused(run_folder, lite_file, sides, tmp_path):
    (tmp_path / "short").write_text("1\n2\n")
    with pytest.raises(InputError, match=r"texts\.source and .*short .*got 40 and 2"):
        verify([lite_file], run_folder, sides[0], tmp_path / "short")


def test_an_export_of_another_tokenizer_is_refused(run_copy, lite_file, sides):
    run = load_run(run_copy)
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    model = make_model(run.config, tokenizer.vocabulary_size)
    save_run(Run(run.config, tokenizer, model, {}), run_copy, overwrite=True)
    with pytest.raises(InputError, match="has another tokenizer_sha256 than"):
        verify([lite_file], run_copy, sides[0])
