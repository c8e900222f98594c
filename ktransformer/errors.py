"""What a user can mend: commands print its message as one sentence and exit with 2."""

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
    """Something the user gave is wrong; the message says what, where and what was expected.

    It is printed on one line and without terminal escapes, whatever the names in it.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def first_line(error: BaseException) -> str:
    """Returns the first line of what an exception says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def printable(text: object) -> str:
    """Returns text, such as a path, with the characters escaped that would steer a terminal.

    So are bytes of a name that are not UTF-8, which Python holds as surrogates.
    """
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _ESCAPED else character
        for character in str(text)
    )


def brief(value: Any) -> str:
    """Returns the `repr` of what a user gave, cut where it would be long."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # An integer of more digits than Python writes.
        return f"an integer of {value.bit_length()} bits"


def check_unicode(name: str, text: str) -> None:
    """Checks that text can be written as UTF-8.

    Raises:
        InputError: It holds bytes that were not UTF-8, as a command line or a file's name may.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} must be UTF-8; got {brief(text)}.") from error


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Returns a question after the known word that is most like a mistaken one; "" for none."""
    close = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
