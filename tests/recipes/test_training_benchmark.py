"""The benchmark of training: what it sums up, and that our engines train."""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.run_command import program
from training.benchmark import training_results, training_speed
from training.benchmark.training_registry import ENGINES
from training.benchmark.training_workload import TrainingWorkload


def benchmark(*arguments: object) -> subprocess.CompletedProcess:
    return program("training.benchmark.training_speed", *arguments)


def row(size: str, engine: str, speed: float, peak: float) -> dict:
    return {
        "size": size,
        "engine": engine,
        "tokens_per_second": speed,
        "relative": speed / 1000,
        "peak_mb": peak,
        "own_peak_mb": peak - (600 if engine.startswith("ours") else 400),
        "least_seconds": 1.0,
        "most_seconds": 2.0,
        "tokens": 6000,
        "core_seconds": 8.0,
        "share": 0.25,
        "first_pass_seconds": 3.0,
        "loss": 9.0,
        "clean": 3,
        "samples": 3,
        "batches": 2,
        "real": 0.8,
        "ceiling": 2e11,
    }


ROWS = [
    row("tiny", "ours", 1500, 700),
    row("tiny", "ours-xla", 1400, 900),
    row("tiny", "torch-passive", 900, 1000),
    row("tiny", "keras", 1000, 2000),
    row("base", "ours", 100, 4500),
    row("base", "torch-passive", 80, 5000),
]


def test_the_verdict_is_our_fastest_against_the_fastest_peer():
    assert training_results.verdict(ROWS) == [
        "tiny: ours, as the command at 1.50 times the best peer, keras.layers.MultiHeadAttention "
        "(goal 1.3, met); 0.70 of PyTorch's peak memory (goal 0.8, met), 0.17 beyond the imports "
        "(goal 1.0, met)",
        "base: ours, as the command at 1.25 times the best peer, PyTorch nn.Transformer, threads "
        "that sleep (goal 1.3, missed); 0.90 of PyTorch's peak memory (goal 0.8, missed), 0.85 "
        "beyond the imports (goal 1.0, met)",
    ]


def test_engines_of_different_groups_are_compared_by_what_they_share():
    slower = [{**row, "tokens_per_second": row["tokens_per_second"] / 2} for row in ROWS[2:4]]
    assert training_results.verdict([*ROWS[:2], *slower]) == training_results.verdict(ROWS[:4])


def test_the_page_is_only_replaced_where_all_was_measured():
    options = argparse.Namespace(batch_tokens=4096, batches=None)
    rows = [row(size, engine, 1, 1) for size in ("tiny", "base") for engine in ENGINES]
    assert training_speed.is_whole(rows, options)
    assert not training_speed.is_whole(rows[1:], options)
    assert not training_speed.is_whole(rows, argparse.Namespace(batch_tokens=512, batches=None))


@pytest.mark.parametrize(
    ("at_once", "groups"),
    [
        (2, [["a", "b"], ["a", "c"], ["a", "d"]]),
        (3, [["a", "b", "c"], ["a", "d"]]),
        (9, [["a", "b", "c", "d"]]),
    ],
)
def test_the_first_engine_is_in_every_group(at_once, groups):
    assert training_speed.divide(["a", "b", "c", "d"], at_once) == groups
    assert training_speed.divide(["a"], at_once) == [["a"]]


def test_an_engine_that_only_explains_decides_nothing():
    kept = row("tiny", "keras-kept", 2000, 500)
    assert training_results.verdict([*ROWS, kept]) == training_results.verdict(ROWS)


def test_a_disturbed_speed_decides_nothing():
    disturbed = [{**row, "clean": 1} for row in ROWS]
    assert (
        "(goal 1.3, undecided: the machine was not quiet)"
        in (training_results.verdict(disturbed)[0])
    )


def test_the_page_has_a_table_for_each_size():
    about = dict.fromkeys(("command", "date", "machine", "batch_tokens", "versions"), "N")
    page = training_results.page(ROWS, about)
    assert page.count("\n## Size ") == 2
    assert (
        "| ours, as the command | 1,500 | 1.50 | 1.00 to 2.00 | 750 | 0.25 | 700 | 0.70 | 100 "
        "| 0.17 | 3.0" in page
    )


def test_the_work_of_the_real_tokens_is_counted_by_hand():
    sizes = {"num_layers": 1, "d_model": 2, "hidden_dim": 3, "vocabulary_size": 5}
    source = np.array([[7, 3, 0]], "int32")
    labels = np.array([[3, 0, 0]], "int32")
    work = TrainingWorkload(sizes, 0.1, 0.1, [(source, labels, labels)])
    assert (work.tokens, work.positions) == (3, 6)
    # A source token: 4 * 4 + 2 * 6 + 2 * 4 = 36; a target token: 6 * 4 + 2 * 6 + 2 * 5 = 46;
    # the attention: 2 * 2 * (2 * 2 + 1 * 1 + 2 * 1) = 28.
    assert work.operations == 6 * (2 * 36 + 46 + 28)


def test_missing_data_are_said_in_a_sentence():
    result = benchmark("--data", "/nowhere")
    assert result.returncode == 2
    assert result.stderr == (
        "benchmark: /nowhere is no folder: it must name the folder of Multi30k, which "
        "training/translation/README.md says how to get.\n"
    )


def test_a_missing_environment_is_said_in_a_sentence(tmp_path):
    result = benchmark("--data", tmp_path, "--peers", tmp_path, "--engines", "torch")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "make benchmark" in result.stderr


@pytest.mark.long
def test_a_text_of_too_few_batches_is_said_in_a_sentence(tmp_path):
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").write_text("one two three\nthree two one\n" * 5)
    options = ["--work", tmp_path / "work", "--engines", "ours", "--sizes", "tiny"]
    result = benchmark("--data", tmp_path, *options)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "benchmark: The text makes 0 full batches; 2 are asked for."
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the benchmark measures of our engine alone on one small batch, and its page."""
    folder = tmp_path_factory.mktemp("work")
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 16}
    ids = np.array([[5, 6, 7, 3], [8, 9, 3, 0]], "int32")
    target = np.array([[2, 5, 6, 7], [2, 8, 9, 0]], "int32")
    vocabulary = {"vocabulary_size": 100, "max_length": 8}
    TrainingWorkload({**sizes, **vocabulary}, 0.1, 0.1, [(ids, target, ids)]).save(folder)
    options = argparse.Namespace(
        engines=["ours"],
        sizes=["tiny"],
        peers=Path("/nowhere"),
        work=folder,
        at_once=None,
        rounds=2,
        seconds=60.0,
        max_foreign=9.0,
        tries=1,
        batch_tokens=8,
        batches=1,
        output=None,
    )
    versions: dict[str, str] = {}
    rows = training_speed.measure("tiny", folder, versions, options)
    training_speed.save(rows, versions, options)
    training_speed.write(rows, options)
    return rows, json.loads((folder / "results.json").read_text()), folder / "results.md"


@pytest.mark.long
def test_our_engine_trains_and_is_measured(found):
    (row,), saved, _ = found
    assert saved["rows"] == [row]
    assert "keras" in saved["about"]["versions"]
    assert row["tokens"] == 14
    assert row["relative"] == 1
    assert 3 < row["loss"] < 7  # About log(100) from random weights.
    assert row["tokens_per_second"] > 0
    assert 0 < row["share"] < 1
    assert (row["clean"], row["samples"]) == (2, 2)


@pytest.mark.long
def test_the_page_has_a_line_for_what_was_measured(found):
    assert "\n| ours, as the command | " in found[2].read_text()
