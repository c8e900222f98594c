"""Dataclasses from parsed JSON, with every field's type checked."""

import dataclasses
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_json_fields(kind: type[T], fields: Any) -> T:
    """Makes a dataclass of a JSON object, and those within it.

    The types may be `str`, `int`, `float`, `bool`, `None`, `Any`, `tuple`, `dict` with strings as
    keys, dataclasses and unions of these. A JSON list becomes a tuple; an int may stand for a
    float.

    Args:
        kind: The dataclass.
        fields: The parsed JSON object.

    Raises:
        TypeError: A field is missing, unknown, or has another type.
        ValueError: The dataclass refuses a value.
    """
    if not isinstance(fields, dict):
        raise TypeError(f"an object was expected; got {fields!r}.")
    hints = get_type_hints(kind)
    return kind(**{name: _convert(value, hints.get(name, Any)) for name, value in fields.items()})


def _convert(value: Any, hint: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, Union):
        return _convert_to_one_of(value, inner)
    if origin is tuple and isinstance(value, list):
        hints = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(_convert(each, hint) for each, hint in zip(value, hints, strict=True))
    if origin is dict and isinstance(value, dict):
        return {name: _convert(each, inner[1]) for name, each in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_json_fields(hint, value)  # type: ignore[arg-type]
    if type(value) in ((int, float) if hint is float else (hint,)):
        return value
    raise TypeError(f"{hint} was expected; got {value!r}.")


def _convert_to_one_of(value: Any, hints: tuple[Any, ...]) -> Any:
    """Converts to the first type that fits."""
    if value is None and type(None) in hints:
        return None
    for hint in hints:
        try:
            return _convert(value, hint)
        except TypeError:
            continue
    raise TypeError(f"one of {hints} was expected; got {value!r}.")
