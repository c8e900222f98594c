"""The comparison of two checkouts: what it judges, and that it runs both."""

import argparse
import math

import pytest

from export.benchmark import compare_checkouts
from export.benchmark.compare_checkouts import Cell, Comparison, compare_cell
from export.benchmark.sampling import Effort
from tests.run_command import ROOT, program


class Engine:
    """Answers requests as a worker does, at a speed that a test sets."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds, self.requests = name, seconds, []

    def ask(self, **request) -> dict:
        self.requests.append(request)
        ids = [[5, 3]] if request.get("with_ids") else None
        return {"seconds": self.seconds, "tokens": 60, "foreign_cores": 0.5, "ids": ids}


def comparison(old, new, cell=None) -> Comparison:
    return Comparison(cell or Cell("T", "lite", 4, 16), tuple(old), tuple(new), 0.0)


def test_a_cell_is_the_median_of_its_rounds_ratios():
    assert comparison([100, 10, 50], [90, 20, 40]).ratio == pytest.approx(0.9)


def test_a_second_measurement_adds_its_rounds():
    both = comparison([100], [80]) + comparison([100, 100], [100, 110])
    assert both.ratios == [0.8, 1.0, 1.1]


def test_the_verdict_names_the_worst_cell_and_counts_those_below():
    found = [
        comparison([100], [98], Cell("T", "training")),
        comparison([100], [96], Cell("B", "lite", 1, 64)),
        comparison([100], [90], Cell("B", "saved_model", 4, 1)),
    ]
    assert compare_checkouts.verdict(found, 0.97) == (
        "worst ratio: 0.900 (B saved_model beam 4 batch 1); 2 of 3 below 0.970"
    )


def test_the_checkouts_take_turns_at_the_same_requests():
    engines = [Engine("old", 1.0), Engine("new", 0.5)]
    effort = Effort(rounds=3, seconds=60, max_foreign=math.inf, tries=1)
    found = compare_cell(Cell("T", "lite", 1, 16), engines, effort)
    assert (found.old, found.new, found.ratio) == ((60.0,) * 3, (120.0,) * 3, 2.0)
    assert (found.identical, found.foreign_cores) == (1.0, 0.5)
    assert engines[0].requests == engines[1].requests
    assert len(engines[0].requests) == 4  # The first pass is not counted.


def test_a_folder_without_the_package_is_one_sentence(tmp_path):
    result = program("export.benchmark.compare_checkouts", tmp_path, ROOT, "--work", tmp_path / "w")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path) in result.stderr


def test_a_process_sees_the_package_of_its_checkout_alone(tmp_path):
    (tmp_path / "old" / "ktransformer").mkdir(parents=True)
    (tmp_path / "old" / "ktransformer" / "__init__.py").touch()
    (tmp_path / "old" / "export").mkdir()
    options = argparse.Namespace(old=tmp_path / "old", work=tmp_path / "work")
    folder = compare_checkouts.link_sources("old", options)
    assert [path.name for path in folder.iterdir()] == ["ktransformer"]
    assert (folder / "ktransformer").resolve() == tmp_path / "old" / "ktransformer"


@pytest.mark.long
def test_a_checkout_is_compared_with_itself(tmp_path):
    cells = ("--sizes", "T", "--only", "lite", "training", "--beams", 1, "--batches", 1)
    effort = ("--rounds", 1, "--seconds", 1, "--least", 0, "--work", tmp_path)
    result = program("export.benchmark.compare_checkouts", ROOT, ROOT, *cells, *effort)
    assert result.returncode == 0, result.stderr
    _, _, lite, training, verdict = result.stdout.splitlines()
    assert lite.startswith("| T lite greedy batch 1 | ")
    assert lite.split(" | ")[6] == "1.00"  # The ids are the same.
    assert training.startswith("| T training | ")
    assert verdict.startswith("worst ratio: ")
    assert verdict.endswith("; 0 of 2 below 0.000")
