"""The tables of docs/file-formats.md."""

import re
from collections.abc import Set
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "file-formats.md"
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


def section(title: str) -> str:
    """The text below a heading."""
    _, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = (each for each in sections if each.partition("\n")[0] == title)
    return found


def rows(text: str, column: str) -> list[dict[str, str]]:
    """The rows of a text's table with a column of this name, by column, links as their words."""
    for table in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        head, _, *others = (
            [_LINK.sub(r"\1", cell.strip()) for cell in line.strip("|").split(" | ")]
            for line in table.splitlines()
        )
        if column in head:
            return [dict(zip(head, cells, strict=True)) for cells in others]
    raise ValueError(f"There is no table with the column {column!r}.")


def names(cell: str) -> list[str]:
    """What stands in a text as code."""
    return re.findall(r"`([^`\n]+)`", cell)


def check_files(title: str, folder: Path, there: Set[str] = frozenset()) -> None:
    """Compares the files of a folder with the table of a section.

    Args:
        title: The section's.
        folder: The folder.
        there: What holds of the folder, as the column `there` says it, beside `always`.
    """
    expected = {
        name
        for row in rows(section(title), "file")
        for name in names(row["file"])
        if row["there"] in {"always", *there}
    }
    assert expected
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    patterns = {name: _pattern(name) for name in expected}
    unnamed = [path for path in found if not any(p.fullmatch(path) for p in patterns.values())]
    missing = [name for name, p in patterns.items() if not any(map(p.fullmatch, found))]
    assert (unnamed, missing) == ([], [])


def _pattern(name: str) -> re.Pattern[str]:
    """`NNNNN` stands for digits, any other word in capitals for a name."""
    parts = re.split(r"([A-Z]+)", name)
    words = [r"\d+" if set(word) == {"N"} else "[^/]+" for word in parts[1::2]]
    texts = [re.escape(text) for text in parts[::2]]
    return re.compile("".join(a + b for a, b in zip(texts, [*words, ""], strict=True)))
