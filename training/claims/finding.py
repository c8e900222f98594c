"""The conclusion of an experiment: claim, outcome and verdict."""

import dataclasses
from collections.abc import Sequence

VERDICTS = ("holds", "holds only when", "does not hold")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One section of the page; `conclude` formats every figure from the measurements."""

    title: str
    """Heading, a few words."""
    claim: str
    """The claim, in one plain sentence."""
    measured: str
    """Models, data, measured quantities and seeds."""
    outcome: str
    """The results with figures; a `table` may follow after an empty line."""
    verdict: str
    """One of `VERDICTS`."""
    condition: str
    """Completes "holds only when"; empty with the other verdicts."""
    explanation: str
    """The reason for the outcome, for a learner; corrects imprecise textbook answers."""
    alt: str
    """Alternative text of the picture."""
    reference: str
    """Papers that made or studied the claim."""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {VERDICTS}; got verdict={self.verdict!r}.")
        if bool(self.condition) != (self.verdict == "holds only when"):
            raise ValueError(
                "condition must be given with the verdict 'holds only when' and no other; "
                f"got verdict={self.verdict!r}, condition={self.condition!r}."
            )

    def sentence(self) -> str:
        """Returns the verdict with its condition."""
        return f"{self.verdict} {self.condition}".strip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table: first column left-aligned, the others right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
