"""Converts numeric arguments of any type, NumPy's included, to Python numbers."""

import operator
from typing import Any

from ktransformer.errors import InputError


def to_integer(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """Returns an integer argument as a Python int.

    Args:
        name: The argument's name, for the message.
        value: An int, a NumPy integer or a scalar integer tensor.
        least: Smallest allowed value; None for no limit.
        most: Largest allowed value; None for no limit.

    Raises:
        InputError: `value` is not an integer or out of range.
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
    """Returns a real argument, such as a NumPy number or a scalar tensor, as a Python float.

    Raises:
        InputError: `value` is not a number. Infinity and NaN are accepted.
    """
    try:
        if not isinstance(value, (str, bytes)):  # `float` would read them.
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} must be a number; got {name}={value!r}.")
