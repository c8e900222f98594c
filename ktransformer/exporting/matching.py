"""Compares the choices of two models, such as translations, by content, not by place."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Outputs = Mapping[str, np.ndarray]

RankedBy = Mapping[str, str]  # See `Task.RANKED_BY`.


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


def number_of_choices(outputs: Outputs, ranked_by: RankedBy) -> str | None:
    """Returns the name of the number that ranks the choices; None where there are none."""
    numbers = (ranked_by[name] for name in outputs if name in ranked_by)
    return next((number for number in numbers if number in outputs), None)


def list_choices(
    outputs: Outputs, names: Sequence[str], number: str, *, pad_id: int = 0
) -> list[list[tuple[Hashable, ...]]]:
    """Lists the content of each input's choices, in the order in which the model gives them.

    Args:
        outputs: A signature's outputs.
        names: The choices: `[B, ...]` or `[B, K, ...]`. The axes beyond those of the number hold
            a sequence of ids, of which the padding is left out.
        number: The name of the number that ranks the choices: `[B]` or `[B, K]`.
        pad_id: The padding, which ends no sequence.
    """
    shape = outputs[number].shape
    rows, places = shape[0], int(np.prod(shape[1:]))
    columns = [
        [
            [_entry(value, pad_id) for value in row]
            for row in outputs[name].reshape(rows, places, -1)
        ]
        for name in names
    ]
    return [list(zip(*row, strict=True)) for row in zip(*columns, strict=True)]


def _entry(values: np.ndarray, pad_id: int) -> Hashable:
    entries = values.tolist()
    while len(entries) > 1 and entries[-1] == pad_id:
        entries.pop()
    return tuple(entries)
