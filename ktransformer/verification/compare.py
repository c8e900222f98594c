"""Compares the outputs of an export with those of its model."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ktransformer.exporting.matching import (
    Outputs,
    RankedBy,
    list_choices,
    match,
    number_of_choices,
)


class Difference(NamedTuple):
    """An example for which an export chooses otherwise than its model, at the first such choice.

    Attributes:
        line: Which example, from 1.
        source: The example.
        model: The model's choice.
        export: The export's.
        model_score: The number that ranks the model's choice.
        export_score: That of the export's.
    """

    line: int
    source: str
    model: str
    export: str
    model_score: float
    export_score: float


@dataclasses.dataclass
class Comparison:
    """Outputs of a model and of an export of it, compared batch by batch.

    Equally good choices may swap places: the numbers of equal choices are compared. The numbers
    are compared by place, too, which shows that the best come first.

    Of n-best lists the agreement is counted by place instead, and a choice that the model lacks is
    accepted if it ranks with the last of the list: the list might as well have ended with it.

    Args:
        ranked_by: See `Task.RANKED_BY`.
        optional: Outputs that the export may lack.
        tie: For n-best lists, how much two equally good choices may differ; None for outputs that
            have to agree as a whole.
        pad_id: The padding of choices that are ids.

    Attributes:
        agreement: For each example, the share of its choices that are the model's: 0 or 1 unless
            `tie` is given.
        difference: The greatest difference between two numbers of examples that agree; NaN where
            a number is, or where no example agrees.
        differences: The examples that do not agree in their choices.
    """

    ranked_by: RankedBy
    optional: frozenset[str] = frozenset()
    tie: float | None = None
    pad_id: int = 0
    agreement: list[float] = dataclasses.field(default_factory=list)
    differences: list[Difference] = dataclasses.field(default_factory=list)
    _gap: float = 0.0
    _compared: bool = False

    @property
    def difference(self) -> float:
        return self._gap if self._compared else math.nan

    def add(self, batch: Mapping[int, Any], expected: Outputs, outputs: Outputs) -> None:
        """Compares the outputs for a batch.

        Args:
            batch: Its examples, by their places among all.
            expected: The model's outputs, `[B, ...]`.
            outputs: The export's.
        """
        same = np.full(len(batch), expected.keys() - outputs.keys() <= self.optional)
        shared = sorted(expected.keys() & outputs.keys())
        number = number_of_choices({name: expected[name] for name in shared}, self.ranked_by)
        choices = [name for name in shared if name in self.ranked_by and number is not None]
        places = () if number is None else expected[number].shape
        numbers: list[str] = []
        for name in shared:
            wanted, got = expected[name], outputs[name]
            if name in choices and got.shape[: len(places)] == places:  # Ids may be padded further.
                continue
            if wanted.shape != got.shape:
                same[:] = False
            elif wanted.dtype.kind == "f":
                numbers.append(name)
            else:
                same &= (wanted == got).reshape(len(same), -1).all(axis=1)
        agreement = same.astype(float)
        if number is not None and number in numbers:
            agreement = self._add_choices(batch, expected, outputs, choices, number, same)
        for name in numbers:
            if self.tie is None or name != number:
                self._add_gaps(expected[name][same], outputs[name][same])
        self.agreement += agreement.tolist()
        self._compared |= bool(agreement.any())

    def _add_choices(
        self,
        batch: Mapping[int, Any],
        expected: Outputs,
        outputs: Outputs,
        names: list[str],
        number: str,
        same: np.ndarray,
    ) -> np.ndarray:
        """Returns the agreement of a batch; clears `same` for the examples whose choices differ."""
        listed, found = (
            list_choices(each, names, number, pad_id=self.pad_id) for each in (expected, outputs)
        )
        numbers, got = (each[number].reshape(len(same), -1) for each in (expected, outputs))
        agreement = same.astype(float)
        for row, (place, example) in enumerate(batch.items()):
            matched = match(listed[row], found[row])
            if matched.unequal:
                i, j = matched.unequal[0]
                words = _words(listed[row][i]), _words(found[row][j])
                scores = float(numbers[row, i]), float(got[row, j])
                self.differences.append(Difference(place + 1, str(example), *words, *scores))
            if self.tie is not None:
                last = numbers[row, -1]
                ties = sum(
                    abs(numbers[row, i] - last) <= self.tie and abs(got[row, j] - last) <= self.tie
                    for i, j in matched.unequal
                )
                agreement[row] *= (len(matched.equal) + ties) / len(listed[row])
            elif matched.unequal:
                agreement[row], same[row] = 0.0, False
            if same[row]:
                for i, j in matched.equal:
                    self._add_gaps(numbers[row, i], got[row, j])
        return agreement

    def _add_gaps(self, expected: Any, outputs: Any) -> None:
        gaps = np.abs(expected - outputs)
        self._gap = float(np.max(gaps, initial=self._gap))  # Keeps NaN.


def _words(choice: Sequence[Any]) -> str:
    """Returns a choice as text."""
    values = (value for output in choice for value in output)
    return ", ".join(v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values)
