"""The benchmark of decoding: what it sums up, and that our engines decode what the model does."""

import argparse
import dataclasses
import json
import subprocess

import pytest
import tensorflow as tf

from export.benchmark import decoding, results, sampling
from ktransformer.tasks import Translator
from tests.run_command import program


def benchmark(*arguments: object) -> subprocess.CompletedProcess:
    return program("export.benchmark.decoding", *arguments)


def row(engine: str, beam: int, batch: int, speed: float, model: str = "T") -> dict:
    cell = {"model": model, "beam": beam, "batch": batch, "count": 8}
    return {"engine": engine, **cell, "tokens_per_second": speed}


def sample(seconds: float, foreign: float) -> dict:
    return {
        "seconds": seconds,
        "foreign_cores": foreign,
        "own_cores": 2.0,
        "tokens": 600,
        "median_latency": None,
        "resident_mb": 50.0,
        "peak_mb": 60.0,
    }


def test_the_verdict_is_the_better_export_in_the_worst_cell():
    rows = [
        row("lite-float32", 1, 1, 300),
        row("ct2-float32", 1, 1, 200),
        row("saved-model", 4, 64, 150),
        row("lite-float32-split", 4, 64, 140),
        row("ct2-float32", 4, 64, 200),
        row("lite-float32", 1, 16, 250, "B"),
        row("lite-int8", 1, 16, 900, "B"),  # Not float32.
        row("lite-float32-2x1", 1, 16, 900, "B"),  # More than one batch at a time.
        row("ct2-float32", 1, 16, 100, "B"),
    ]
    assert results.verdict(rows, ["T", "B"]) == (
        "worst ratio to CTranslate2 float32: T 0.75 (beam 4 batch 64), B 2.50 (greedy batch 16)"
    )


def test_each_export_has_a_verdict_as_the_product_runs_it():
    rows = [
        row("saved-model", 1, 1, 100),
        row("saved-model-compiled", 1, 1, 250),
        row("lite-float32-product", 1, 1, 300),
        row("lite-float32-split", 1, 1, 900),  # Only this program splits so.
        row("ct2-float32", 1, 1, 200),
    ]
    assert results.product_verdicts(rows, ["T"]).splitlines() == [
        "worst ratio to CTranslate2, SavedModel: T 0.50 (greedy batch 1)",
        "worst ratio to CTranslate2, SavedModel compiled: T 1.25 (greedy batch 1)",
        "worst ratio to CTranslate2, .tflite: T 1.50 (greedy batch 1)",
        "worst ratio to CTranslate2, .tflite int8 to int8: T not measured",
    ]


def test_the_page_is_only_replaced_where_all_was_measured():
    cells = [(beam, batch) for beam in decoding.BEAMS for batch in decoding.BATCHES]
    names = [name for name, engine in decoding.ENGINES.items() if engine.default]
    rows = [row(name, *cell, 1, model) for name in names for cell in cells for model in ("T", "B")]
    assert decoding.is_whole(rows, argparse.Namespace(sentences=None))
    assert not decoding.is_whole(rows[1:], argparse.Namespace(sentences=None))
    assert not decoding.is_whole(rows, argparse.Namespace(sentences=8))


def test_disturbed_samples_are_left_out_of_the_median():
    samples = [sample(1.0, 0.0), sample(9.0, 1.0), sample(3.0, 0.1)]
    summary = sampling.summarise(samples, max_foreign=0.15)
    assert (summary["tokens_per_second"], summary["clean"]) == (300, 2)


def test_without_two_undisturbed_samples_the_least_disturbed_count():
    samples = [sample(9.0, 1.0), sample(2.0, 0.3), sample(4.0, 0.2)]
    summary = sampling.summarise(samples, max_foreign=0.15)
    assert (summary["tokens_per_second"], summary["clean"]) == (200, 0)


def test_missing_data_are_said_in_a_sentence():
    result = benchmark("--data", "/nowhere")
    assert result.returncode == 2
    assert result.stderr == (
        "benchmark: /nowhere is no folder: it must name the folder of Multi30k, which "
        "training/translation/README.md says how to get.\n"
    )


def test_a_missing_environment_is_said_in_a_sentence(tmp_path):
    result = benchmark("--data", tmp_path, "--peers", tmp_path, "--engines", "hf")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "make benchmark-decoding" in result.stderr


LITE = [f"lite-float32{way}" for way in ("-product", "", "-split", "-2x1")]
ENGINES_OF_OURS = ["saved-model", "saved-model-compiled", *LITE]


@pytest.fixture(scope="module")
def work(run_folder, data_folder, tmp_path_factory):
    """The benchmark of the small run, our engines alone; the folder of what it found."""
    data, work = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("work")
    (data / "test_2016_flickr.en").write_bytes((data_folder / "test.source").read_bytes())
    options = ["--data", data, "--run", run_folder, "--work", work, "--models"]
    engines = ENGINES_OF_OURS
    effort = ["--beams", 1, "--batches", 4, "--sentences", 60, "--rounds", 1, "--seconds", 0]
    result = benchmark(*options, "--engines", *engines, *effort)
    assert result.returncode == 0, result.stderr
    return work


@pytest.mark.long
def test_our_engines_produce_the_tokens_of_the_model(work, translator, data_folder):
    lines = (data_folder / "test.source").read_text().splitlines()
    greedy = dataclasses.replace(translator.decoding, beam_size=1, max_repeats=0)
    reference = Translator(translator.model, translator.tokenizer, greedy)
    source = reference.tokenizer.encode(tf.constant(lines)).to_tensor()
    found = reference.ids(source)["ids"]
    expected = int(tf.math.count_nonzero(found))
    rows = json.loads((work / "results.json").read_text())["rows"]
    assert {row["engine"]: row["tokens"] for row in rows} == dict.fromkeys(
        ENGINES_OF_OURS, expected
    )


@pytest.mark.long
def test_a_profile_of_a_compiled_search_says_where_its_time_goes(work):
    profile = "export.benchmark.profile_compiled"
    result = program(profile, work / decoding.TRAINED, "--batch", 4, "--rounds", 1)
    assert result.returncode == 0, result.stderr
    kinds = [line[:16].strip() for line in result.stdout.splitlines()]
    assert {"matrix products", "top-k and sorts"} <= set(kinds)
    assert program(profile, "nowhere").returncode == 2


@pytest.mark.long
def test_a_profile_of_a_plain_search_says_which_operations_take_its_time(work):
    profile = "export.benchmark.profile_saved_model"
    result = program(profile, work / decoding.TRAINED, "--batch", 4, "--rounds", 2, "--rows", 99)
    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines()[2:]]
    calls = {row[0]: int(row[1].replace(",", "")) for row in rows}
    assert calls["all"] == pytest.approx(sum(calls.values()) / 2, abs=len(calls))  # Rounded.
    # A step of greedy search sums the products of attention; the encoder multiplies matrices.
    products = sum(count for kind, count in calls.items() if "BatchMatMul" in kind)
    assert calls["Sum"] > products > 0
    assert program(profile, "nowhere").returncode == 2


@pytest.mark.long
def test_plans_of_a_tflite_are_timed_beside_each_other(work):
    plans = "export.benchmark.time_plans"
    options = ["--batch", 4, "--sentences", 4, "--rounds", 1]
    result = program(plans, work / decoding.TRAINED, "1,1:2", "2", "1:3", *options)
    assert result.returncode == 2
    result = program(plans, work / decoding.TRAINED, "1,1:2", "1:3", *options)
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()[2:]
    assert first.startswith("| 2 interpreters, threads: 1, 1; parts of at most 2 hypotheses;")
    assert first.endswith("| 1.00 |")
    assert second.startswith("| 1 interpreter, threads: 1; parts of at most 3 hypotheses | ")
    assert program(plans, "nowhere", "1:3").returncode == 2


@pytest.mark.long
def test_the_page_has_a_line_for_each_engine(work):
    page = (work / "results.md").read_text()
    assert page.count("\n| ours, .tflite float32, 2 batches in flight | ") == 2
