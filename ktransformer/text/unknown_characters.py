"""Counts the characters of a text that a tokenizer has never seen."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ktransformer.text.line_limits import normalize_line

_SHOWN = 5


class UnknownCharacters:
    """Counts, over many texts, those with characters that become unknown tokens.

    Args:
        known: The characters that the tokenizer knows, `Tokenizer.characters`; None to count
            nothing.

    Attributes:
        texts: Texts with such a character.
        counts: How often each of them stood in the texts.
    """

    def __init__(self, known: str | None) -> None:
        self._known = None if known is None else {*known, " "}
        self.texts = 0
        self.counts: Counter[str] = Counter()

    def add(self, texts: Iterable[str]) -> None:
        """Counts the unknown characters of some texts, once they are normalised."""
        if self._known is None:
            return
        for text in texts:
            if self._known.issuperset(text):  # As nearly always: nothing is worth normalising.
                continue
            normal = normalize_line(text)
            unknown = set(normal) - self._known
            self.counts.update(character for character in normal if character in unknown)
            self.texts += bool(unknown)

    def watch(self, blocks: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        """Passes blocks of texts on, and counts in each."""
        for block in blocks:
            self.add(block)
            yield block

    def __str__(self) -> str:
        """Returns a sentence with the numbers and the most frequent of the characters."""
        shown = [f"{c!r} ({count})" for c, count in self.counts.most_common(_SHOWN)]
        more = ", ..." if len(self.counts) > _SHOWN else ""
        return (
            f"{self.texts:,} texts hold characters that the tokenizer has never seen, "
            f"{self.counts.total():,} in all: {', '.join(shown)}{more}."
        )
