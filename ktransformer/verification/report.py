"""The report of a verification: a table, the first differences, and the verdict."""

import dataclasses

from ktransformer.errors import printable
from ktransformer.files import json_text, readable_size
from ktransformer.scores import Scores
from ktransformer.verification.compare import Difference


@dataclasses.dataclass(frozen=True)
class Result:
    """The results of one signature of an export, or of the model itself.

    Attributes:
        name: The path of the export or model.
        kind: `model`, `SavedModel` or `tflite`, with its quantisation and shortlist.
        signature: The signature.
        load_seconds: Time to open it and run a first example, without the imports.
        milliseconds: Time for an example, the median over the batches, all exports taking turns.
        bytes: Its size on the disk; 0 for a model in memory.
        identical: Share of examples whose choices are the model's.
        difference: The greatest difference between two numbers of these; NaN where there are none.
        scores: BLEU, chrF and exact matches against the references; None without any.
        truncated: How many examples were truncated.
        differences: The examples whose choices are not the model's.
        broken: The limits that are exceeded, in words.
    """

    name: str
    kind: str
    signature: str
    load_seconds: float
    milliseconds: float
    bytes: int = 0
    identical: float = 1.0
    difference: float = 0.0
    scores: Scores | None = None
    truncated: int = 0
    differences: tuple[Difference, ...] = ()
    broken: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """The comparison of a model with its exports.

    Attributes:
        examples: How many there are.
        batch_size: Examples of a batch.
        threads: CPU threads; None for one a core.
        results: The model's first, then those of each signature's exports.
    """

    examples: int
    batch_size: int
    threads: int | None
    results: tuple[Result, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """All limits that are exceeded, in words."""
        return tuple(broken for result in self.results for broken in result.broken)

    def to_json(self) -> str:
        """Returns the report as JSON; numbers that are not finite are null."""
        return json_text(dataclasses.asdict(self))

    def to_text(self, *, differences: int = 3) -> str:
        """Returns the report as text, with control characters escaped.

        Args:
            differences: How many examples to show for each export, of its first signature whose
                choices differ.
        """
        lines = [
            f"{self.examples} examples in batches of {self.batch_size}, threads: "
            f"{self.threads or 'one a core'}; {self.results[0].truncated} of them were cut to the "
            "longest length. Load: to open it and run a first example, imports aside.",
            "",
            *self._table(),
        ]
        shown: set[str] = set()
        for result in self.results:
            if result.name in shown:  # By another signature, which differs for the same examples.
                continue
            for each in result.differences[:differences]:
                shown.add(result.name)
                lines += [
                    "",
                    f"{result.name}, {result.signature}, line {each.line}: {each.source}",
                    f"  model   {each.model_score:9.5f}  {each.model}",
                    f"  export  {each.export_score:9.5f}  {each.export}",
                ]
        verdict = [f"BROKEN: {broken}" for broken in self.broken] or ["All tolerances hold."]
        return "\n".join(map(printable, [*lines, "", *verdict]))

    def _table(self) -> list[str]:
        """Returns the lines of a Markdown table, with scores only where there are references."""
        columns = {
            "model or export": [each.name for each in self.results],
            "signature": [each.signature for each in self.results],
            "kind": [each.kind for each in self.results],
            "size": [readable_size(each.bytes) for each in self.results],
            "load, s": [f"{each.load_seconds:.2f}" for each in self.results],
            "ms an example": [f"{each.milliseconds:.2f}" for each in self.results],
            "identical": [f"{each.identical:.4f}" for each in self.results],
            "difference": [f"{each.difference:.6f}" for each in self.results],
        }
        scores = [each.scores for each in self.results]
        if any(scores):
            columns |= {
                "BLEU": [f"{each.bleu:.2f}" if each else "" for each in scores],
                "chrF": [f"{each.chrf:.2f}" if each else "" for each in scores],
                "exact match": [f"{each.exact_match:.4f}" if each else "" for each in scores],
            }
        rows = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
        return [f"| {' | '.join(row)} |" for row in rows]
