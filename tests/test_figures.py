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
def sections():
    """The benchmark's page, by model."""
    page = (ROOT / "export" / "benchmark" / "results-product.md").read_text()
    parts = page.split("\n## ")
    return {
        model: next(part for part in parts if part.startswith(title))
        for model, title in SECTIONS.items()
    }


@pytest.fixture(scope="module")
def ranges(sections):
    """From the slowest to the fastest cell, by model and by what is compared."""
    found = {}
    for model, section in sections.items():
        for name in ROWS.values():
            ratios = sorted(map(float, cells(section, name)))
            found[model, name] = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return found


def resident(section: str, engine: str) -> str:
    """Returns the memory of an engine, in MB, as the pages write it."""
    return f"{int(cells(section, engine)[4]):,}"


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


def test_the_page_on_compilation_has_the_memory_of_the_benchmark(sections):
    page = (ROOT / "docs" / "how-to" / "faster-exports.md").read_text()
    (said,) = re.findall(r"a process holds .*?\(\[results-product", page, re.DOTALL)
    engines = ("ours, SavedModel float32, compiled", "ours, SavedModel float32")
    expected = [resident(sections[model], engine) for model in ("T", "B") for engine in engines]
    assert re.findall(r"\d,\d{3}", said) == expected


def test_the_page_for_those_who_come_from_ctranslate2_has_the_figures_of_the_benchmark(
    sections, ranges
):
    page = (ROOT / "docs" / "migration" / "ctranslate2.md").read_text()
    assert f".tflite {ranges['T', 'CTranslate2, .tflite']} times as fast" in page
    theirs, ours = (
        resident(sections["T"], engine)
        for engine in (
            "CTranslate2 float32, 1 replica on 2 threads",
            "ours, .tflite float32, as LiteEngine runs it",
        )
    )
    assert f"| {theirs} MB | .tflite {ours} MB |" in page
