"""The notebooks that the site has of its tutorials are valid, and run in Jupyter's kernel."""

import doctest
import os
import sys
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "docs" / "site"
TUTORIALS = sorted((SITE.parent / "tutorials").glob("[!R]*.md"))
EXECUTED = ("first-translator", "subclass-attention")  # test_pages runs the blocks of all.

nbformat = pytest.importorskip("nbformat")


@pytest.fixture
def make_notebook(monkeypatch):
    monkeypatch.syspath_prepend(SITE)
    from notebooks import make_notebook

    return make_notebook


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorials_notebook_is_valid_and_has_its_blocks(page, make_notebook):
    from blocks import split_page

    text = page.read_text(encoding="utf-8")
    notebook = nbformat.reads(nbformat.writes(make_notebook(text)), as_version=4)
    nbformat.validate(notebook)
    blocks = [part for part in split_page(text) if part.language in ("python", "sh")]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == len(blocks) > 0
    for cell, block in zip(cells, blocks, strict=True):
        assert cell.source.endswith(block.text.rstrip())
        assert cell.source.startswith("%%bash") == (block.language == "sh")


@pytest.mark.long
@pytest.mark.parametrize("name", EXECUTED)
def test_a_notebook_runs_from_top_to_bottom_and_prints_what_its_page_shows(
    name, make_notebook, tmp_path, monkeypatch
):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from blocks import split_page

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(SITE.parents[1]))
    text = (SITE.parent / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    notebook = make_notebook(text)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
    printed = iter(_printed(cell) for cell in notebook.cells if cell.cell_type == "code")
    last = ""
    for part in split_page(text):
        if part.language in ("python", "sh"):
            last = next(printed)
        elif part.language == "output":
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(part.text, last, options), last


def _printed(cell) -> str:
    """Returns what a cell wrote to stdout."""
    return "".join(
        output.text
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
