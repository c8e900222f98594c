"""Matches the choices of two models, such as translations, by what they say and not by place."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Outputs = Mapping[str, np.ndarray]

CHOICES = ("ids", "text", "piece", "class", "label")
_NUMBERS = ("score", "probability")


class Match(NamedTuple):
    """Which of two lists' entries are equal, by their places.

    Attributes:
        equal: Places in the first and in the second list of entries that are equal.
        unequal: Places of the entries that are left over, paired in their order.
    """

    equal: list[tuple[int, int]]
    unequal: list[tuple[int, int]]


def match(expected: Sequence[Hashable], found: Sequence[Hashable]) -> Match:
    """Pairs equal entries of two lists of one length, each entry once and the earliest first."""
    free: dict[Hashable, list[int]] = {}
    for place, entry in enumerate(found):
        free.setdefault(entry, []).append(place)
    equal, left = [], []
    for place, entry in enumerate(expected):
        if free.get(entry):
            equal.append((place, free[entry].pop(0)))
        else:
            left.append(place)
    others = sorted(place for places in free.values() for place in places)
    return Match(equal, list(zip(left, others, strict=True)))


def number_of_choices(outputs: Outputs) -> str | None:
    """Returns the name of the output that says how good each choice is; None without choices."""
    if not any(name in outputs for name in CHOICES):
        return None
    return next((name for name in _NUMBERS if name in outputs), None)


def list_choices(
    outputs: Outputs, names: Sequence[str], number: str
) -> list[list[tuple[Hashable, ...]]]:
    """Lists what each input's choices say, in the order in which the model gives them.

    Args:
        outputs: A signature's outputs.
        names: Those that say what was chosen: `[B, ...]` or `[B, K, ...]`. What they have beyond
            the shape of the number is a sequence of ids, of which the padding is left out.
        number: The name of the output that says how good each choice is: `[B]` or `[B, K]`.
    """
    shape = outputs[number].shape
    rows, places = shape[0], int(np.prod(shape[1:]))
    columns = [
        [[_entry(value) for value in row] for row in outputs[name].reshape(rows, places, -1)]
        for name in names
    ]
    return [list(zip(*row, strict=True)) for row in zip(*columns, strict=True)]


def _entry(values: np.ndarray) -> Hashable:
    entries = values.tolist()
    while len(entries) > 1 and entries[-1] == 0:  # Padding, and never an end.
        entries.pop()
    return tuple(entries)
