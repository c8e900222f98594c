"""Batches with an alignment of each target token to the source, for guided alignment."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ktransformer.text.aligner import Aligner
from ktransformer.text.batches import Batch, EpochBatches


class AlignedBatches(EpochBatches):
    """Batches of another kind with one more input, `alignment`, float32 `[B, T, S]`.

    Args:
        batches: The batches, of inputs `source` and `target`.
        aligner: Aligns each batch anew, from its ids alone.
    """

    def __init__(self, batches: EpochBatches, aligner: Aligner) -> None:
        self._batches, self._aligner = batches, aligner
        self.steps_per_epoch, self.batch_tokens = batches.steps_per_epoch, batches.batch_tokens
        self.tokens, self.too_long = batches.tokens, batches.too_long
        self.weighted = batches.weighted

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for inputs, *others in self._batches.epoch(epoch, first_step):
            alignment = self._aligner.align(inputs["source"], others[0])
            aligned: Any = ({**inputs, "alignment": alignment}, *others)
            yield aligned

    def input_specs(self) -> Any:
        import tensorflow as tf

        return {**super().input_specs(), "alignment": tf.TensorSpec([None] * 3, tf.float32)}


def pairs_of(batches: EpochBatches, most: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yields the ids of the first `most` pairs of the first epoch, a source and a target each."""
    count = 0
    for inputs, labels, *_ in batches.epoch(0):
        for pair in zip(inputs["source"], labels, strict=True):
            if count == most:
                return
            count += 1
            yield pair
