"""The tolerances of an export that is compared with its model."""

import dataclasses
import math

from ktransformer.errors import InputError
from ktransformer.scores import Scores
from ktransformer.tasks import Description
from ktransformer.verification.report import Result

_FLOAT32 = {"min_identical": 0.999, "max_score_difference": 0.001}


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """How much an export may differ from its model.

    Attributes:
        min_identical: Least share of examples for which the texts, classes and other choices are
            the model's; None for 0.999 for an export in float32, and for no limit for a quantised
            one or one with a shortlist.
        max_score_difference: Greatest difference between the scores, or other numbers, of such
            examples; None for 0.001 and for no limit likewise.
        max_bleu_drop: Most BLEU points to lose against the references. Where the model's own BLEU
            is no higher, as with references of few words: most points of chrF, and of exact
            matches in percent.

    Raises:
        InputError: A number is not in its range.
    """

    min_identical: float | None = None
    max_score_difference: float | None = None
    max_bleu_drop: float = 0.3

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name} must be a number of at least 0; got {value}.")
        if self.min_identical is not None and self.min_identical > 1:
            raise InputError(f"min_identical must be at most 1; got {self.min_identical}.")

    def of(self, export: Description) -> dict[str, float]:
        """Returns the limits that hold for an export, by name."""
        defaults = {} if export.inexact else _FLOAT32
        stated = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return {**defaults, **stated}


def check_demands(
    path: object, export: Description, tolerances: Tolerances, *, scorable: bool = False
) -> None:
    """Refuses to verify an export without any limit but that of BLEU.

    Args:
        path: Where it lies.
        export: Its description.
        tolerances: The tolerances.
        scorable: Whether references would set a limit, for the message.

    Raises:
        InputError: There is no limit.
    """
    if not tolerances.of(export).keys() - {"max_bleu_drop"}:
        raise InputError(
            f"Of {path} nothing would be demanded, for it {export.inexact}: give "
            f"{'--reference, ' if scorable else ''}--min-identical or --max-score-difference."
        )


def find_broken(result: Result, model: Result, limits: dict[str, float]) -> tuple[str, ...]:
    """Returns the limits that a result exceeds, in words; NaN exceeds each.

    Args:
        result: The result of an export.
        model: The model's.
        limits: See `Tolerances.of`.
    """
    broken = []
    least = limits.get("min_identical", 0.0)
    most = limits.get("max_score_difference", math.inf)
    if not result.identical >= least:
        broken.append(f"{result.identical:.4f} are identical, fewer than {least}")
    if result.identical == 0:
        if most < math.inf and "min_identical" not in limits:
            broken.append("none is identical, so there are no numbers to compare")
    elif not result.difference <= most:
        broken.append(f"numbers differ by {result.difference:.6f}, more than {most}")
    if result.scores is not None and model.scores is not None:
        broken += _find_lost(result.scores, model.scores, limits)
    return tuple(f"{result.name}, {result.signature}: {each}." for each in broken)


def _find_lost(scores: Scores, own: Scores, limits: dict[str, float]) -> list[str]:
    """Returns the scores that fall by more than `max_bleu_drop` points, in words.

    BLEU alone counts, unless the model's own is too low to fall that far: then chrF and exact
    matches count. If there is no other limit, scores that are all too low prove nothing.
    """
    limit, before, after = limits["max_bleu_drop"], _points(own), _points(scores)
    names = ["BLEU"] if own.bleu > limit else list(before)
    lost = {name: before[name] - after[name] for name in names}
    broken = [
        f"{points:.2f} {name} are lost, more than {limit}"
        for name, points in lost.items()
        if not points <= limit
    ]
    if limits.keys() == {"max_bleu_drop"} and all(before[name] <= limit for name in names):
        low = ", ".join(f"{name} {before[name]:.2f}" for name in names)
        broken.append(
            f"nothing is demanded, for the model's own scores are {low}: give min_identical or "
            "max_score_difference"
        )
    return broken


def _points(scores: Scores) -> dict[str, float]:
    """Returns the scores, all from 0 to 100."""
    return {"BLEU": scores.bleu, "chrF": scores.chrf, "exact matches": 100 * scores.exact_match}
