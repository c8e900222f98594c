"""Facts about a line that need no tokenizer: whether it has text, and how long it is at least."""

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import Any

from ktransformer.errors import InputError
from ktransformer.text.piece_model import NORMALIZATION, SPACE

CHARACTERS_PER_TOKEN = 64
"""How many characters of a text are read for each token that it may have; see `cut_line`."""
_PIECE_CHARACTERS = 16  # SentencePiece's longest piece, unless it is told otherwise.

# Not of the characters that the normalisation drops, or that nobody sees: controls, spaces, marks
# of direction and of joining, variation selectors, fillers.
_VISIBLE = re.compile(
    "[^\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    "\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2581\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\ufffd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What no piece reaches across: a space, a digit of ASCII or a sign of ASCII.
_RUN = re.compile(r"[^\s!-/0-9:-@\[-`{-~]+")
_DIGIT = re.compile("[0-9]")
_UNIT = re.compile(f"{_RUN.pattern}|{_DIGIT.pattern}")
_SPACES = re.compile("  +")


def check_lines(lines: Iterable[str]) -> list[str]:
    """Returns lines as a list.

    Raises:
        InputError: They are one string, or one of them is something else.
    """
    if isinstance(lines, str | bytes):
        raise InputError(f"lines must be several strings; got one of {len(lines)} characters.")
    lines = list(lines)
    for i, line in enumerate(lines):
        if not isinstance(line, str):
            raise InputError(
                f"lines must be strings, each a text; got {line!r} ({type(line).__name__}) as "
                f"number {i}. Read a file with read_lines."
            )
    return lines


def is_empty(line: str) -> bool:
    """Tells whether a line is empty once it is normalised, or holds only invisible characters."""
    return _VISIBLE.search(line) is None


def is_surely_longer(line: str, max_length: int, *, split_digits: bool = True) -> bool:
    """Tells whether a line is over a number of tokens, whatever tokenizer `train` makes.

    It is a lower bound: a piece has at most 16 characters, and none reaches across a space or from
    a letter to a sign or a digit.

    Args:
        line: The text.
        max_length: Tokens, the end token included.
        split_digits: Whether every digit will be a piece of its own.
    """
    if len(line) < max_length:
        return False
    # More than `_fewest` could say, and quickly found: nearly every line is done here.
    if len(_UNIT.findall(line)) + len(line) // _PIECE_CHARACTERS + 1 < max_length:
        return False
    if _fewest(line, split_digits) < max_length:
        return False
    return _fewest(normalize_line(line), split_digits) >= max_length  # Which may be shorter.


def normalize_line(line: str) -> str:
    """Normalises a line as the tokenizers do that `Tokenizer.train` makes."""
    normal: str = _normalizer().normalize(line)
    return normal.replace(SPACE, " ").strip(" ")


@dataclasses.dataclass(frozen=True)
class LengthBound:
    """Leaves pairs out before there is a tokenizer, for a side that is surely too long.

    Attributes:
        max_length: Tokens of a side, the end token included.
        split_digits: Whether every digit will be a piece of its own.
    """

    max_length: int
    split_digits: bool = True

    def excludes(self, *sides: str) -> bool:
        """Tells whether a side is over the length, whatever tokenizer `train` makes."""
        return any(
            is_surely_longer(side, self.max_length, split_digits=self.split_digits)
            for side in sides
        )


def cut_line(line: str, max_length: int) -> str:
    """Cuts a text that is far longer than a model takes, before it costs time to encode.

    Args:
        line: The text.
        max_length: Tokens that the model takes, the end token included. Kept are the first
            `CHARACTERS_PER_TOKEN` characters for each, where a run of spaces counts as one.
    """
    limit = CHARACTERS_PER_TOKEN * max_length
    return line if len(line) <= limit else _SPACES.sub(" ", line)[:limit]


def _fewest(line: str, split_digits: bool) -> int:
    """Counts the fewest pieces that a line may have."""
    characters = sum(map(len, line.split()))
    runs = sum(
        -(-len(run) // _PIECE_CHARACTERS)
        for run in _RUN.findall(line)
        if any(map(str.isalpha, run))  # Others are signs, and may share a piece with signs.
    )
    digits = len(_DIGIT.findall(line)) if split_digits else 0
    return max(runs + digits, -(-characters // _PIECE_CHARACTERS))


@functools.cache
def _normalizer() -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceNormalizer(rule_name=NORMALIZATION)
