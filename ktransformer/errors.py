"""The error for invalid input: commands print its message as one sentence and exit with 2."""

import difflib
import reprlib
import unicodedata
from collections.abc import Iterable
from typing import Any

_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Control, format, surrogate, line, paragraph.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlong = 500
_SHORT.maxlevel = 3


class InputError(ValueError):
    """Invalid user input; the message names the argument, the rule and the value.

    The message is one line without terminal escapes, whatever names it quotes.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, or its class name if that is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def memory_sentence(error: MemoryError) -> str:
    """Returns what a command says of too little memory."""
    return f"Not enough memory ({error}); take a smaller model or smaller batches."


def printable(text: object) -> str:
    """Escapes control characters, which could steer a terminal, and surrogates (invalid UTF-8)."""
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _ESCAPED else character
        for character in str(text)
    )


def brief(value: Any) -> str:
    """Returns the `repr` of a user's value, shortened if it is long."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # An integer of more digits than Python writes.
        return f"an integer of {value.bit_length()} bits"


def check_unicode(name: str, text: str) -> None:
    """Checks that text can be written as UTF-8.

    Raises:
        InputError: It holds surrogates: bytes of a command line or file name that are not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} must be UTF-8; got {brief(text)}.") from error


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Returns " Did you mean ...?" with the closest known word, or "" if none is close."""
    close = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
