"""What an experiment concludes: the claim, what came out, and the verdict."""

import dataclasses
from collections.abc import Sequence

VERDICTS = ("holds", "holds only when", "does not hold")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One section of the page. Every figure in it is formatted from the measurements."""

    title: str
    """A few words."""
    claim: str
    """The claim, in one plain sentence."""
    measured: str
    """What was measured: model, data, seeds."""
    outcome: str
    """What came out, with its figures; it may go on in a `table` after an empty line."""
    verdict: str
    """One of `VERDICTS`."""
    condition: str
    """What follows "holds only when"; empty with another verdict."""
    explanation: str
    """Why it came out so, for someone who is learning; what is right where the usual answer is
    imprecise."""
    alt: str
    """What the picture shows, for those who cannot see it."""
    reference: str
    """The papers that made the claim or studied it."""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {VERDICTS}; got verdict={self.verdict!r}.")
        if bool(self.condition) != (self.verdict == "holds only when"):
            raise ValueError(
                "condition must be given with the verdict 'holds only when', and with no other; "
                f"got verdict={self.verdict!r}, condition={self.condition!r}."
            )

    def sentence(self) -> str:
        """Returns the verdict with its condition."""
        return f"{self.verdict} {self.condition}".strip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table, its first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
