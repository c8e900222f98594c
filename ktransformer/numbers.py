"""Numbers that a caller gives: all that Python takes for numbers, NumPy's among them."""

import operator
from typing import Any

from ktransformer.errors import InputError


def to_integer(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """Returns an integer argument as a Python int.

    Args:
        name: The argument's name, for the message.
        value: An int, or what Python takes for one: a NumPy integer, a tensor of one integer.
        least: The smallest that is allowed; None for any.
        most: The largest that is allowed; None for any.

    Raises:
        InputError: It is no integer, or outside its range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be an integer; got {name}={value!r}.") from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise InputError(f"{name} must be {_range(least, most)}; got {name}={number}.")
    return number


def _range(least: int | None, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"from {least} to {most}"


def to_float(name: str, value: Any) -> float:
    """Returns a real argument as a Python float, from a NumPy number or a tensor of one, too.

    Raises:
        InputError: It is no number. Infinity and NaN are some.
    """
    try:
        if not isinstance(value, (str, bytes)):  # `float` would read them.
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} must be a number; got {name}={value!r}.")
