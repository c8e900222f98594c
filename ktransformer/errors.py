"""What a user can mend: commands print its message as one sentence and exit with 2."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where and what was expected."""


def first_line(error: BaseException) -> str:
    """Returns the first line of what an exception says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Returns a question after the known word that is most like a mistaken one; "" for none."""
    close = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
