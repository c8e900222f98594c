"""Batches of several texts, in random order."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.batches import Batch, EpochBatches, with_weights


class MixedBatches(EpochBatches):
    """Epochs of the batches of several texts, each batch of one of them, in random order.

    An epoch has every batch of the first text, and so many of each other that their numbers are
    in proportion to the weights. Those of the others go on where they ended in the epoch before, so
    that every pair has its turn before one comes again. A batch depends only on seed, epoch and
    step.

    Args:
        texts: The batches of each text, which take the same inputs.
        weights: The weight of each text, above 0; None for every batch of every text in an epoch.
        seed: Seed of the order.

    Attributes:
        batches_per_epoch: Batches of each text in an epoch, at least 1.

    Raises:
        InputError: There is no text, a weight is not above 0, or there is not one for each text.
    """

    def __init__(
        self,
        texts: Sequence[EpochBatches],
        *,
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not texts or (weights is not None and len(weights) != len(texts)):
            raise InputError(
                f"There must be a text, and as many weights as texts; got {len(texts)} texts and "
                f"weights={weights}."
            )
        for weight in weights or ():
            if not 0 < weight < float("inf"):
                raise InputError(f"weights must be above 0 and finite; got {weight}.")
        self._texts, self._seed = texts, seed
        steps = [text.steps_per_epoch for text in texts]
        if weights is not None:
            steps[1:] = [max(round(steps[0] * each / weights[0]), 1) for each in weights[1:]]
        self.batches_per_epoch = tuple(steps)
        self.steps_per_epoch = sum(steps)
        self.batch_tokens = max(text.batch_tokens for text in texts)
        parts = [count / text.steps_per_epoch for count, text in zip(steps, texts, strict=True)]
        self.tokens = sum(
            round(part * text.tokens) for part, text in zip(parts, texts, strict=True)
        )
        self.too_long = texts[0].too_long
        self.weighted = any(text.weighted for text in texts)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        counts = self.batches_per_epoch
        order = np.repeat(np.arange(len(counts))[::-1], counts[::-1])
        order = np.random.default_rng([self._seed, epoch, 2]).permutation(order)
        done = np.bincount(order[:first_step], minlength=len(counts))
        streams = [
            text.stream(epoch * count + int(first))
            for text, count, first in zip(self._texts, counts, done, strict=True)
        ]
        for i in order[first_step:]:
            batch = next(streams[i])
            yield with_weights(batch) if self.weighted else batch

    def input_specs(self) -> Any:
        return self._texts[0].input_specs()
