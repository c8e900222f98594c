"""Counts the characters of texts that a tokenizer does not know."""

import re
from collections import Counter
from collections.abc import Iterable

from ktransformer.text.line_limits import normalize_line

_SHOWN = 5


class UnknownCharacters:
    """Counts the texts that have characters unknown to a tokenizer, and these characters.

    Args:
        known: `Tokenizer.characters`; None counts nothing.
        symbols: Texts whose characters count as known within them: `Tokenizer.symbols`.

    Attributes:
        texts: Texts with such a character.
        counts: The number of times that each of them occurs.
    """

    def __init__(self, known: str | None, symbols: Iterable[str] = ()) -> None:
        self._known = None if known is None else {*known, " "}
        self._symbols = re.compile("|".join(map(re.escape, symbols)) or "(?!)")  # Or nothing.
        self.texts = 0
        self.counts: Counter[str] = Counter()

    def add(self, texts: Iterable[str]) -> None:
        """Normalises texts and counts their unknown characters."""
        if self._known is None:
            return
        for text in texts:
            if self._known.issuperset(text):  # Nearly every text: no need to normalise it.
                continue
            normal = self._symbols.sub("", normalize_line(text))
            unknown = set(normal) - self._known
            self.counts.update(character for character in normal if character in unknown)
            self.texts += bool(unknown)

    def __str__(self) -> str:
        """Returns a sentence with the counts and the most frequent characters."""
        shown = [f"{c!r} ({count})" for c, count in self.counts.most_common(_SHOWN)]
        more = ", ..." if len(self.counts) > _SHOWN else ""
        return (
            f"{self.texts:,} texts hold characters that the tokenizer has never seen, "
            f"{self.counts.total():,} in all: {', '.join(shown)}{more}."
        )
