"""Splits a page into prose and blocks of code, for its test and its notebook.

A block marked `sh` runs in a shell, one marked `python` in a namespace that the page's blocks
share. One marked `output` is what the block before it prints, with `...` for what differs from run
to run. Blocks of other languages are shown and not run.
"""

import dataclasses
import re
from collections.abc import Iterator

_FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```\n?", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a page.

    Attributes:
        language: That of a block; empty for prose.
        text: Its lines, without the fences.
        line: The number of its first line in the page, from 1.
    """

    language: str
    text: str
    line: int


def split_page(markdown: str) -> Iterator[Part]:
    """Yields prose and blocks in the page's order."""
    end = 0
    for found in _FENCE.finditer(markdown):
        yield Part("", markdown[end : found.start()], markdown.count("\n", 0, end) + 1)
        line = markdown.count("\n", 0, found.start(2)) + 1
        yield Part(found[1] or "text", found[2], line)
        end = found.end()
    yield Part("", markdown[end:], markdown.count("\n", 0, end) + 1)
