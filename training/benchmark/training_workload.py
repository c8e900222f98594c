"""What is trained: a model's sizes and the batches, and how much work they are.

NumPy and the standard library alone, for every environment imports it.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PAD_ID = 0
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainingWorkload:
    """One model, and the batches that a sample trains it on.

    Attributes:
        sizes: `num_layers` (of the encoder and of the decoder), `d_model`, `num_heads`,
            `hidden_dim`, `vocabulary_size`, `max_length`.
        dropout: On embeddings and on the sublayers' outputs.
        label_smoothing: Of the loss.
        batches: Source `[B, S]`, target `[B, T]` and labels `[B, T]`, int32 with 0 for padding.
    """

    sizes: dict[str, int]
    dropout: float
    label_smoothing: float
    batches: Sequence[Batch]

    @classmethod
    def load(cls, folder: Path) -> "TrainingWorkload":
        """Reads what `save` wrote."""
        about: dict[str, Any] = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
        with np.load(folder / "batches.npz") as arrays:
            batches = [
                (arrays[f"source{i}"], arrays[f"target{i}"], arrays[f"labels{i}"])
                for i in range(about.pop("batches"))
            ]
        return cls(**about, batches=batches)

    def save(self, folder: Path) -> None:
        """Writes `workload.json` and `batches.npz`."""
        about = {**vars(self), "batches": len(self.batches)}
        (folder / "workload.json").write_text(json.dumps(about), encoding="utf-8")
        arrays = {
            f"{name}{i}": array
            for i, batch in enumerate(self.batches)
            for name, array in zip(("source", "target", "labels"), batch, strict=True)
        }
        np.savez(folder / "batches.npz", **arrays)

    @property
    def tokens(self) -> int:
        """The real tokens of all batches, source and labels."""
        return sum(
            int(np.count_nonzero(side)) for source, _, labels in self.batches
            for side in (source, labels)
        )  # fmt: skip

    @property
    def positions(self) -> int:
        """The tokens of all batches, padding included."""
        return sum(source.size + labels.size for source, _, labels in self.batches)

    @property
    def operations(self) -> int:
        """The floating-point operations of the matrix products that the real tokens need.

        Forward and backward: three times two for each multiplication and addition. Padding, which
        an engine may or may not compute, counts nowhere.
        """
        sizes = self.sizes
        layers, width, inner = sizes["num_layers"], sizes["d_model"], sizes["hidden_dim"]
        # Query, key, value and output of self-attention, two layers of feed-forward; and key and
        # value of the cross-attention, which are of the source.
        source_token = layers * (4 * width**2 + 2 * width * inner + 2 * width**2)
        target_token = layers * (6 * width**2 + 2 * width * inner)
        target_token += width * sizes["vocabulary_size"]
        products = 0
        for source, _, labels in self.batches:
            # [B]; int64, for the products are large.
            sources = np.count_nonzero(source, axis=1).astype("int64")
            targets = np.count_nonzero(labels, axis=1).astype("int64")
            pairs = sources**2 + targets**2 + sources * targets
            products += int(sources.sum()) * source_token + int(targets.sum()) * target_token
            products += 2 * layers * width * int(pairs.sum())  # Scores, and the sum of values.
        return 3 * 2 * products
