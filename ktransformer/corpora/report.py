"""What is counted of the texts of a shard, a file or a corpus."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ktransformer.text.unknown_characters import UnknownCharacters


@dataclasses.dataclass
class Report:
    """Counts of texts.

    Attributes:
        texts: Texts that were translated; of a text's documents, its lines.
        truncated: Texts that were cut to the most tokens that the model reads.
        missing_terms: Terms of the sources that are not in their translations.
        broken: Parts of sentences of documents that were too long for the model.
        unknown_texts: Texts with characters that the tokenizer does not know.
        unknown: How often each of these occurs.
    """

    texts: int = 0
    truncated: int = 0
    missing_terms: int = 0
    broken: int = 0
    unknown_texts: int = 0
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Returns the counts by name."""
        return dataclasses.asdict(self)

    def warnings(self) -> list[str]:
        """Returns a sentence for each count that a user should know of."""
        sentences = []
        if self.truncated:
            sentences.append(f"{self.truncated} texts were cut to the most tokens of the model.")
        if self.broken:
            sentences.append(
                f"Sentences of more tokens than the model reads were broken into {self.broken} "
                "parts."
            )
        if self.missing_terms:
            sentences.append(
                f"{self.missing_terms} terms of the source are not in the translations."
            )
        if self.unknown_texts:
            unknown = UnknownCharacters(None)
            unknown.texts, unknown.counts = self.unknown_texts, Counter(self.unknown)
            sentences.append(str(unknown))
        return sentences


def total(reports: Iterable[Report]) -> Report:
    """Returns the sums of reports."""
    whole, unknown = Report(), Counter[str]()
    for report in reports:
        for name in ("texts", "truncated", "missing_terms", "broken", "unknown_texts"):
            setattr(whole, name, getattr(whole, name) + getattr(report, name))
        unknown.update(report.unknown)
    whole.unknown = dict(unknown)
    return whole
