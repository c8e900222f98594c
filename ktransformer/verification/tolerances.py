"""What is demanded of an export when it is compared with its model."""

import dataclasses
import math

from ktransformer.errors import InputError
from ktransformer.tasks import Description


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """What an export may differ in from its model.

    Attributes:
        min_identical: Least share of inputs of which texts, classes and other choices are the
            model's; None for 0.999 for an export in float32 and for no demand on a quantised one
            or one with a shortlist.
        max_score_difference: Most that the scores, or other numbers, of such inputs may differ;
            None for 0.001 and for no demand likewise.
        max_bleu_drop: Most BLEU points that a translator may lose against the reference; where
            the model itself has no more than these, as with references of few words, the most
            points of chrF and of exact matches in percent.

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
        """Returns the tolerances that hold for an export, by name."""
        defaults = {} if export.inexact else _FLOAT32
        stated = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return {**defaults, **stated}


_FLOAT32 = {"min_identical": 0.999, "max_score_difference": 0.001}


def check_demands(
    path: object, export: Description, tolerances: Tolerances, *, others: str = ""
) -> None:
    """Refuses to call an export good of which nothing is demanded.

    Args:
        path: Where it lies.
        export: What it says about itself.
        tolerances: What is stated, without the BLEU.
        others: More options of the command that would demand something, for the message.

    Raises:
        InputError: Nothing is.
    """
    if not tolerances.of(export).keys() - {"max_bleu_drop"}:
        raise InputError(
            f"Of {path} nothing would be demanded, for it {export.inexact}: give "
            f"{others}--min-identical or --max-score-difference."
        )
