"""Documents put together at random from sentences, and what their translations must be."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# No sentence extends over these.
_BREAKS = ("\n", "\r\n", "\n\n", "\r\n\r\n    ", "\n\t", "\r", " \n  \n", "\u2028", "\u2029", "\0")
# These separate sentences of which the first ends in a full stop.
_SPACES = (" ", "  ", "\t", " \t ", "\u00a0", "\u3000", " \u2003 ")
_EDGES = ("", "", "", " ", "\n", "\r\n", "\t", "\ufeff", "\n  \n", "\x00")


class RandomDocument(NamedTuple):
    """A document and the places of its sentences.

    Attributes:
        separators: What stands before each sentence and, at last, behind all.
        sentences: The numbers of its sentences.
    """

    separators: list[str]
    sentences: list[int]

    def join(self, texts: Sequence[str]) -> str:
        """Returns the document with the text of each sentence from `texts`."""
        parts = zip(self.separators, [texts[i] for i in self.sentences], strict=False)
        return "".join(part for pair in parts for part in pair) + self.separators[-1]


def random_documents(
    sentences: Sequence[str], count: int, seed: int, *, most_lines: int = 4, most: int = 50
) -> list[RandomDocument]:
    """Makes documents of 1 to `most_lines` lines of 1 to `most` sentences, few more often.

    Args:
        sentences: Those to choose from. Those that end in a full stop may share a line.
        count: The number of documents.
        seed: The same one gives the same documents.
        most_lines: The most lines.
        most: The most sentences of a line.
    """
    rng = np.random.default_rng(seed)
    return [_draw(rng, sentences, most_lines, most) for _ in range(count)]


def _pick(rng: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[rng.integers(len(texts))]  # NumPy's own choice drops NULs at a text's end.


def _draw(
    rng: np.random.Generator, sentences: Sequence[str], most_lines: int, most: int
) -> RandomDocument:
    separators, chosen = [_pick(rng, _EDGES)], []
    for line in range(rng.integers(1, most_lines + 1)):
        if line:
            separators[-1] = _pick(rng, _BREAKS)
        for _ in range(int(np.exp(rng.uniform(0, np.log(most + 1))))):
            chosen.append(int(rng.integers(len(sentences))))
            ended = sentences[chosen[-1]].endswith(".")
            separators.append(_pick(rng, _SPACES if ended else _BREAKS))
    separators[-1] = _pick(rng, _EDGES)
    return RandomDocument(separators, chosen)
