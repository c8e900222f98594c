"""Word alignments: reading, writing and the alignment error rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

Links = set[tuple[int, int]]  # Places, from 0, of a source word and a target word.


class Reference(NamedTuple):
    """The links of a pair that people made.

    Attributes:
        line: The line of the pair, from 1.
        sure: Links that any good alignment has.
        possible: These, and links that it may have.
    """

    line: int
    sure: Links
    possible: Links


def read_references(path: str | Path) -> list[Reference]:
    """Reads lines of a line number, a tab and links, `2-3` sure or `2?3` possible."""
    references = []
    for line in Path(path).read_text().splitlines():
        number, links = line.split("\t")
        sure = {_link(link, "-") for link in links.split() if "-" in link}
        possible = {_link(link, "?") for link in links.split() if "?" in link}
        references.append(Reference(int(number), sure, sure | possible))
    return references


def read_links(path: str | Path) -> list[Links]:
    """Reads a line of links for each pair, `0-0 1-2`."""
    lines = Path(path).read_text().splitlines()
    return [{_link(link, "-") for link in line.split()} for line in lines]


def _link(text: str, mark: str) -> tuple[int, int]:
    source, target = text.split(mark)
    return int(source), int(target)


def error_rate(references: Sequence[Reference], found: Sequence[Links]) -> tuple[float, ...]:
    """Returns the alignment error rate, the precision and the recall of links.

    Args:
        references: The reference of each pair.
        found: The links of each pair.

    Reference: Och and Ney 2003, section 4.1.
    """
    pairs = list(zip(references, found, strict=True))
    links = sum(len(each) for _, each in pairs)
    possible = sum(len(each & reference.possible) for reference, each in pairs)
    right = sum(len(each & reference.sure) for reference, each in pairs)
    sure = sum(len(reference.sure) for reference in references)
    return 1 - (right + possible) / (links + sure), possible / max(links, 1), right / sure
