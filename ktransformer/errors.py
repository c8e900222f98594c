"""What a user can mend: commands print its message as one sentence and exit with 2."""


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where and what was expected."""
