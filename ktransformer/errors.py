"""What a user can mend: commands print its message as one sentence and exit with 2."""


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where and what was expected."""


def first_line(error: BaseException) -> str:
    """Returns the first line of what an exception says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
