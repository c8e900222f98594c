"""What is decoded: a model's folder, its sentences, and how they are cut into batches.

The standard library alone, for every environment imports it.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

Ids = list[int]


@dataclasses.dataclass(frozen=True)
class Workload:
    """One model in all its forms, with the sentences that it decodes.

    Attributes:
        folder: Where its forms lie; `prepare.py` says under which names.
        name: `T`, `B`, or `trained`.
        sizes: The model's sizes, as `ktransformer.models.Transformer` names them.
        decoding: `max_length_ratio`, `max_length_offset`, `max_target_length`, `length_penalty`.
        special: The ids `pad`, `unknown`, `start` and `end`.
        forced_tokens: How many tokens every sentence gets, where the end token is never chosen;
            None for a trained model, whose sentences end by themselves.
        sentences: Source ids, the end token included.
    """

    folder: Path
    name: str
    sizes: dict[str, int]
    decoding: dict[str, float]
    special: dict[str, int]
    forced_tokens: int | None
    sentences: list[Ids]

    @classmethod
    def load(cls, folder: str | Path) -> "Workload":
        """Reads the `workload.json` of a model's folder."""
        folder = Path(folder)
        return cls(folder, **json.loads((folder / "workload.json").read_text(encoding="utf-8")))

    def save(self) -> None:
        """Writes the `workload.json` of the folder."""
        fields: dict[str, Any] = dataclasses.asdict(self)
        del fields["folder"]
        (self.folder / "workload.json").write_text(json.dumps(fields), encoding="utf-8")

    def batches(self, batch: int, count: int) -> list[list[Ids]]:
        """Cuts sentences, evenly drawn from all, into batches.

        Where a batch has more than one sentence they are sorted by length first, as all engines'
        own front ends do.
        """
        step = len(self.sentences) / count
        chosen = [self.sentences[int(i * step)] for i in range(count)]
        if batch > 1:
            chosen.sort(key=len)
        return [chosen[i : i + batch] for i in range(0, count, batch)]

    def limit(self, batch: list[Ids]) -> int:
        """Returns the most target tokens of any sentence of a batch, the end token included.

        The same rule as `ktransformer.decoding.length_limits`, which applies it to each sentence
        alone; the peers know one limit a batch.
        """
        ratio, offset = self.decoding["max_length_ratio"], self.decoding["max_length_offset"]
        longest = int(max(map(len, batch)) * ratio + offset)
        return max(1, min(longest, int(self.decoding["max_target_length"])))

    def ended(self, ids: Ids) -> Ids:
        """Cuts ids behind the end token; what follows is padding."""
        end = self.special["end"]
        return ids[: ids.index(end) + 1] if end in ids else ids
