"""Makes a notebook of a page: its blocks that run are cells, all else is prose."""

import nbformat
from blocks import split_page

_PYTHON = {"display_name": "Python 3", "language": "python", "name": "python3"}


def make_notebook(markdown: str) -> nbformat.NotebookNode:
    """Returns the notebook of a tutorial."""
    cells, prose = [], ""

    def end_prose() -> None:
        if prose.strip():
            cells.append(nbformat.v4.new_markdown_cell(prose.strip()))

    for part in split_page(markdown):
        if part.language in ("python", "sh"):
            end_prose()
            prose = ""
            start = "%%bash -eu\n" if part.language == "sh" else ""
            cells.append(nbformat.v4.new_code_cell(start + part.text.rstrip()))
        elif part.language == "output":  # The cell itself prints it.
            continue
        elif part.language:
            prose += f"```{part.language}\n{part.text}```\n"
        else:
            prose += part.text
    end_prose()
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # Else it is random, and no build is like another.
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": _PYTHON})
