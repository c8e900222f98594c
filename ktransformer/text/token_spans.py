"""The place of each token and each word in its text."""

import difflib
import re
import unicodedata
from collections.abc import Iterator, Sequence

from ktransformer.text.piece_model import SPACE

Span = tuple[int, int]  # The first character, and the one behind the last.
_UNWRITTEN = ("<s>", "</s>", "<pad>")
_UNKNOWN = "<unk>"


def find_spans(text: str, tokens: Sequence[str]) -> list[Span]:
    """Finds the characters of a text that each of its tokens stands for, spaces left out.

    Tokens are of the normalised text. Characters are compared by their compatibility
    decomposition; where they differ still, as at unknown tokens, what is left on one side between
    equal parts stands for what is left on the other.

    Args:
        text: The text.
        tokens: Its pieces, in order, a leading space as `▁`.

    Returns:
        A span for each token; an empty one for a token that is no part of the text, such as the
        end.
    """
    written = list(_characters(text))
    pieces = [
        (character, place)
        for place, token in enumerate(tokens)
        for character in _token_characters(token)
    ]
    found: list[list[int]] = [[] for _ in tokens]
    for first, second in _equal_parts([c for c, _ in written], [c for c, _ in pieces]):
        whole = [place for _, place in written[first]]
        if first.stop - first.start == second.stop - second.start:
            for place, (_, token) in zip(whole, pieces[second], strict=True):
                found[token].append(place)
        else:
            for _, token in pieces[second]:
                found[token] += whole
    spans: list[Span] = []
    end = 0
    for places in found:
        spans.append((min(places), max(places) + 1) if places else (end, end))
        end = spans[-1][1]
    return spans


def find_words(text: str) -> list[Span]:
    """Returns the span of each word: characters between spaces, as `text.split()` has them."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def _characters(text: str) -> Iterator[tuple[str, int]]:
    """Yields the decomposed characters of a text, without spaces, and the place each comes from."""
    for place, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character):
            if not part.isspace() and part != SPACE:
                yield part, place


def _token_characters(token: str) -> Iterator[str]:
    if token == _UNKNOWN:
        yield _UNKNOWN
    elif token not in _UNWRITTEN:
        yield from (character for character, _ in _characters(token))


def _equal_parts(first: list[str], second: list[str]) -> Iterator[tuple[slice, slice]]:
    """Yields the parts of two sequences that stand for each other, neither of them empty."""
    if first == second:
        yield slice(0, len(first)), slice(0, len(second))
        return
    for _, *ends in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if ends[0] < ends[1] and ends[2] < ends[3]:
            yield slice(ends[0], ends[1]), slice(ends[2], ends[3])
