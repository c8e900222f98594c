"""Compares the choices of two models, such as translations, by content, not by place."""

import dataclasses
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
    outputs: Outputs, names: Sequence[str], number: str
) -> list[list[tuple[Hashable, ...]]]:
    """Lists the content of each input's choices, in the order in which the model gives them.

    Args:
        outputs: A signature's outputs.
        names: The choices: `[B, ...]` or `[B, K, ...]`. The axes beyond those of the number hold
            a sequence of ids, of which the padding is left out.
        number: The name of the number that ranks the choices: `[B]` or `[B, K]`.
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


@dataclasses.dataclass
class Comparison:
    """Outputs of a model and of an export of it, compared batch by batch.

    Equally good choices may swap places: the numbers of equal choices are compared. The numbers
    are compared by place, too, which shows that the best come first.

    Attributes:
        ranked_by: The choices, each with the number that ranks it; see `Task.RANKED_BY`.
        optional: Outputs that the export may lack.
        same: For each input, whether all choices are the model's.
        difference: The greatest between two numbers of such inputs; NaN if a number is.
    """

    ranked_by: RankedBy
    optional: frozenset[str] = frozenset()
    same: list[bool] = dataclasses.field(default_factory=list)
    difference: float = 0.0

    def add(self, expected: Outputs, outputs: Outputs) -> None:
        """Compares the outputs for a batch."""
        rows = len(next(iter(expected.values())))
        same = np.full(rows, expected.keys() - outputs.keys() <= self.optional)
        both = sorted(expected.keys() & outputs.keys())
        shared = [name for name in both if expected[name].shape == outputs[name].shape]
        if len(shared) < len(both):
            same[:] = False
        number = number_of_choices({name: expected[name] for name in shared}, self.ranked_by)
        choices = [name for name in shared if name in self.ranked_by and number is not None]
        for name in shared:
            if expected[name].dtype.kind != "f" and name not in choices:
                same &= (expected[name] == outputs[name]).reshape(rows, -1).all(axis=1)
        if number is not None:
            self._add_choices(expected, outputs, choices, number, same)
        for name in shared:
            if expected[name].dtype.kind == "f":
                self._add_gaps(expected[name][same], outputs[name][same])
        self.same += same.tolist()

    def _add_choices(
        self, expected: Outputs, outputs: Outputs, names: list[str], number: str, same: np.ndarray
    ) -> None:
        """Clears `same` where choices differ, and compares the numbers of equal ones elsewhere."""
        listed, found = (list_choices(each, names, number) for each in (expected, outputs))
        numbers, got = (each[number].reshape(len(same), -1) for each in (expected, outputs))
        for row in range(len(same)):
            matched = match(listed[row], found[row])
            same[row] &= not matched.unequal
            if same[row]:
                for i, j in matched.equal:
                    self._add_gaps(numbers[row, i], got[row, j])

    def _add_gaps(self, expected: np.ndarray, outputs: np.ndarray) -> None:
        gaps = np.abs(expected - outputs)
        self.difference = float(np.max(gaps, initial=self.difference))  # Keeps NaN.
