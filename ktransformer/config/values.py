"""Converts settings from the command line or YAML to their types."""

from collections.abc import Iterable
from typing import Any, get_args, get_origin

from ktransformer.errors import InputError, brief

_NULL = ("none", "null")


def split_settings(settings: Iterable[str]) -> dict[str, str]:
    """Splits what a command line's `--set` gives, `key=value` each.

    Raises:
        InputError: One has no equals sign.
    """
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set takes key=value; got {brief(setting)}.")
        pairs[key] = value
    return pairs


def convert(name: str, value: Any, kind: Any) -> Any:
    """Makes a word of the command line, or a YAML value, fit a setting's type.

    Raises:
        InputError: It does not.
    """
    if get_origin(kind) is tuple:
        return _convert_names(name, value)
    kinds = [k for k in get_args(kind) if k is not type(None)] or [kind]
    optional = len(get_args(kind)) > len(kinds)
    if optional and (value is None or (isinstance(value, str) and value.lower() in _NULL)):
        return None
    (target,) = kinds
    try:
        if target is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise ValueError
        if target is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return target(value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise InputError(
            f"{name} must be of type {target.__name__}{' or null' if optional else ''}; "
            f"got {brief(value)}."
        ) from None


def _convert_names(name: str, value: Any) -> tuple[str, ...]:
    """Makes a list of names of `a,b`, of a YAML list or of null.

    Raises:
        InputError: It is something else.
    """
    if value is None or (isinstance(value, str) and value.lower() in _NULL):
        return ()
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
        raise InputError(f"{name} must be a list of names; got {brief(value)}.")
    return tuple(each.strip() for each in names if each.strip())
