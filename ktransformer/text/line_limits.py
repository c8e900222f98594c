"""Checks of lines that need no tokenizer: visible text, and a lower bound of the token count."""

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import Any

from ktransformer.errors import InputError
from ktransformer.text.piece_model import NORMALIZATION, SPACE

CHARACTERS_PER_TOKEN = 64
"""Characters of a text that are encoded for each token it may have; see `cut_line`."""
_PIECE_CHARACTERS = 16  # SentencePiece's default longest piece.

# All but characters that the normalisation drops or that are invisible: controls, spaces, marks of
# direction and of joining, variation selectors, fillers.
_VISIBLE = re.compile(
    "[^\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    "\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2581\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\ufffd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# No piece spans a space, an ASCII digit or an ASCII sign.
_RUN = re.compile(r"[^\s!-/0-9:-@\[-`{-~]+")
_DIGIT = re.compile("[0-9]")
_UNIT = re.compile(f"{_RUN.pattern}|{_DIGIT.pattern}")
_SPACES = re.compile("  +")


def check_lines(lines: Iterable[str]) -> list[str]:
    """Returns lines as a list.

    Raises:
        InputError: `lines` is one string, or one of them is no string.
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
    """Returns whether a line has no visible character."""
    return _VISIBLE.search(line) is None


def is_surely_longer(line: str, max_length: int, *, split_digits: bool = True) -> bool:
    """Returns whether a line exceeds a number of tokens with any tokenizer that `train` makes.

    The bound follows from the pieces: each has at most 16 characters, and none spans a space or
    joins a letter with a sign or a digit.

    Args:
        line: The text.
        max_length: Tokens, the end token included.
        split_digits: Whether every digit is a piece of its own.
    """
    if len(line) < max_length:
        return False
    # At least what `_fewest` returns, and cheaper: decides nearly every line.
    if len(_UNIT.findall(line)) + len(line) // _PIECE_CHARACTERS + 1 < max_length:
        return False
    if _fewest(line, split_digits) < max_length:
        return False
    return _fewest(normalize_line(line), split_digits) >= max_length  # It may be shorter.


def normalize_line(line: str) -> str:
    """Normalises a line as the tokenizers of `Tokenizer.train` do."""
    normal: str = _normalizer().normalize(line)
    return normal.replace(SPACE, " ").strip(" ")


@dataclasses.dataclass(frozen=True)
class LengthBound:
    """Excludes pairs that are too long with any tokenizer, before one is trained.

    Attributes:
        max_length: The most tokens of a side, the end token included.
        split_digits: Whether every digit is a piece of its own.
        symbols: The tokenizer's symbols, which are one token each.
    """

    max_length: int
    split_digits: bool = True
    symbols: tuple[str, ...] = ()

    def excludes(self, *sides: str) -> bool:
        """Returns whether one of the sides is too long; see `is_surely_longer`."""
        if self.symbols:
            symbol = re.compile("|".join(map(re.escape, self.symbols)))
            sides = tuple(symbol.sub("", side) for side in sides)  # The bound may be lower.
        return any(
            is_surely_longer(side, self.max_length, split_digits=self.split_digits)
            for side in sides
        )


def cut_line(line: str, max_length: int) -> str:
    """Cuts a text that is far longer than the model's limit, to save the time of encoding it.

    Args:
        line: The text.
        max_length: The model's limit in tokens, the end token included. The first
            `CHARACTERS_PER_TOKEN` characters for each are kept; a run of spaces counts as one.
    """
    limit = CHARACTERS_PER_TOKEN * max_length
    return line if len(line) <= limit else _SPACES.sub(" ", line)[:limit]


def _fewest(line: str, split_digits: bool) -> int:
    """Returns a lower bound of the number of pieces of a line."""
    characters = sum(map(len, line.split()))
    runs = sum(
        -(-len(run) // _PIECE_CHARACTERS)
        for run in _RUN.findall(line)
        if any(map(str.isalpha, run))  # Other runs are signs, which may share a piece.
    )
    digits = len(_DIGIT.findall(line)) if split_digits else 0
    return max(runs + digits, -(-characters // _PIECE_CHARACTERS))


@functools.cache
def _normalizer() -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceNormalizer(rule_name=NORMALIZATION)
