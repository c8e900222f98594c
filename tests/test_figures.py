"""Figures that a page repeats are those of the page that a benchmark wrote."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The rows of docs/explanations/where-the-time-goes.md, and what the benchmark calls them.
ROWS = {
    ".tflite, as `LiteEngine` runs it": "CTranslate2, .tflite",
    ".tflite int8, likewise, to CTranslate2's best int8": "CTranslate2, .tflite int8 to int8",
    "SavedModel, compiled": "CTranslate2, SavedModel compiled",
    "SavedModel, plain": "CTranslate2, SavedModel",
}
SECTIONS = {"T": "Size T", "B": "Size B", "trained": "A trained model"}


def cells(text: str, row: str) -> list[str]:
    """Returns the cells of the last table row that begins with a name."""
    rows = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", text, re.MULTILINE)
    return [cell.strip() for cell in rows[-1].split("|")]


@pytest.fixture(scope="module")
def ranges():
    """From the slowest to the fastest cell, by model and by what is compared."""
    page = (ROOT / "export" / "benchmark" / "results-product.md").read_text()
    sections = {part.splitlines()[0]: part for part in page.split("\n## ")}
    found = {}
    for model, title in SECTIONS.items():
        (section,) = (part for head, part in sections.items() if head.startswith(title))
        for name in ROWS.values():
            ratios = sorted(map(float, cells(section, name)))
            found[model, name] = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return found


@pytest.mark.parametrize("row", ROWS)
def test_where_the_time_goes_has_the_ranges_of_the_benchmark(row, ranges):
    page = (ROOT / "docs" / "explanations" / "where-the-time-goes.md").read_text()
    assert cells(page, row) == [ranges[model, ROWS[row]] for model in SECTIONS]


def test_the_readme_has_the_ranges_of_the_benchmark(ranges):
    page = (ROOT / "README.md").read_text()
    (row,) = re.findall(r"^\| \[Decoding against CTranslate2\].*$", page, re.MULTILINE)
    engines = (".tflite, as `LiteEngine` runs it", "SavedModel, compiled", "SavedModel, plain")
    expected = [ranges[model, ROWS[name]] for model in ("T", "trained") for name in engines]
    assert re.findall(r"\d\.\d\d to \d\.\d\d", row) == expected
