"""Batches of one text with batches of another among them, as when a model is fine-tuned."""

from collections.abc import Iterator

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.batches import Batch, EpochBatches, with_weights


class MixedBatches(EpochBatches):
    """An epoch of one text, with batches of a second text in random places.

    An epoch has every batch of the first text, and so many of the second that they are `share` of
    all. Those of the second go on where they ended in the epoch before, so that all of it has its
    turn, however long it is. A batch depends only on seed, epoch and step.

    Args:
        batches: The batches of the first text.
        others: The batches of the second text, which takes the same inputs.
        share: Share of an epoch's batches that are of the second text, in (0, 1).
        seed: Seed of the places.

    Attributes:
        others_per_epoch: Batches of the second text in an epoch, at least 1.

    Raises:
        InputError: `share` is not in (0, 1).
    """

    def __init__(
        self, batches: EpochBatches, others: EpochBatches, *, share: float, seed: int = 0
    ) -> None:
        if not 0 < share < 1:
            raise InputError(f"share must be in (0, 1); got {share}.")
        self._batches, self._others, self._seed = batches, others, seed
        own = batches.steps_per_epoch
        self.others_per_epoch = max(round(own * share / (1 - share)), 1)
        self.steps_per_epoch = own + self.others_per_epoch
        self.batch_tokens = batches.batch_tokens
        part = self.others_per_epoch / others.steps_per_epoch
        self.tokens = batches.tokens + round(part * others.tokens)
        self.too_long = batches.too_long
        self.weighted = batches.weighted or others.weighted

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        of_others = np.arange(self.steps_per_epoch) < self.others_per_epoch
        of_others = np.random.default_rng([self._seed, epoch, 2]).permutation(of_others)
        done = int(of_others[:first_step].sum())
        own = self._batches.epoch(epoch, first_step - done)
        others = self._others.stream(epoch * self.others_per_epoch + done)
        for is_other in of_others[first_step:]:
            batch = next(others if is_other else own)
            yield with_weights(batch) if self.weighted else batch
