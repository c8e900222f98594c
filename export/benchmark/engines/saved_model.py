"""Our SavedModel, its signature `ids`, in plain TensorFlow."""

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  # Registers the operations of the tokenizer in the export.

from export.benchmark.workload import Ids, Workload


class Engine:
    """Decodes with `model/beamK`, a SavedModel that holds its search.

    Args:
        work: What is decoded.
        beam: K; chooses the export.
        compiled: Whether it is the one whose search XLA compiles, `model/beamK.compiled`.
    """

    def __init__(self, work: Workload, beam: int, *, compiled: bool = False) -> None:
        self._work = work
        name = f"beam{beam}{'.compiled' if compiled else ''}"
        self._loaded = tf.saved_model.load(str(work.folder / name / "1"))
        self._run = self._loaded.signatures["ids"]

    def versions(self) -> dict[str, str]:
        """Returns the versions of what runs the model."""
        return {"tensorflow": tf.__version__}

    def decode(self, batch: list[Ids]) -> list[Ids]:
        """Decodes one batch."""
        found = self._run(source=tf.constant(padded(batch)))["ids"].numpy()
        return [self._work.ended(ids) for ids in found.tolist()]


def padded(batch: list[Ids]) -> np.ndarray:
    """Makes an int32 array `[B, S]`, padded with 0, of a batch."""
    rows = np.zeros((len(batch), max(map(len, batch))), np.int32)
    for row, ids in zip(rows, batch, strict=True):
        row[: len(ids)] = ids
    return rows
