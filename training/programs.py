"""How a program of a recipe ends."""

import sys
from collections.abc import Callable

from ktransformer.errors import InputError


def exit_status(
    name: str, work: Callable[[], int | None], *, interrupted: str = "Interrupted."
) -> int:
    """Runs a program's work and prints an expected failure as one sentence to stderr.

    Args:
        name: The program's name, which begins the sentence.
        work: Returns the exit status, or None for 0.
        interrupted: The sentence for Ctrl-C.

    Returns:
        The exit status: 2 for wrong input and for files that cannot be read or written, 130 for
        Ctrl-C, else that of `work`.
    """
    try:
        return work() or 0
    except InputError as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"{error.filename}: {error.strerror}." if error.filename else f"{error}."
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return 130
    print(f"{name}: {sentence}", file=sys.stderr)
    return 2
