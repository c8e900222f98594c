"""Batches of encoded pairs in shards on disk."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ktransformer.text.batches import Batch, EpochBatches, TokenBatches
from ktransformer.text.buckets import Buckets
from ktransformer.text.shards import Shards


class ShardedBatches(EpochBatches):
    """Batches for `model.fit` of encoded pairs on disk, of which one shard is in memory.

    `TokenBatches` makes the batches of each shard. The order of the shards, and the order within
    each, changes every epoch. A batch depends only on seed, epoch and step, and is reached without
    reading the shards before its own.

    Args:
        shards: The shards.
        batch_tokens: The most tokens of a batch on each side, padding included.
        bucket_step: Distance between two buckets' lengths, in tokens.
        seed: Seed of all orders.
        copies: See `TokenBatches`.
        row_multiple: See `TokenBatches`.

    Attributes:
        steps_per_epoch: Batches in an epoch.
        too_long: Pairs left out when the shards were written.

    Raises:
        InputError: `batch_tokens` is below the shards' `max_length`.

    Example:
        ```python
        files = ParallelFiles("train.en.gz", "train.de.gz")
        survey = survey_files(files, sample_pairs=500_000)
        tokenizer = Tokenizer.train(survey.sample.sources + survey.sample.targets, 8000)
        write_shards(
            "shards", tokenizer, files, pairs=survey.pairs, shard_pairs=500_000, max_length=128
        )
        batches = ShardedBatches(Shards.open("shards"), batch_tokens=2048)
        model.fit(batches.dataset(), steps_per_epoch=batches.steps_per_epoch, shuffle=False)
        ```
    """

    def __init__(
        self,
        shards: Shards,
        *,
        batch_tokens: int,
        bucket_step: int = 4,
        seed: int = 0,
        copies: int = 1,
        row_multiple: int = 1,
    ) -> None:
        self._shards, self._seed = shards, seed
        self._options: dict[str, Any] = {
            "batch_tokens": batch_tokens,
            "max_length": shards.max_length,
            "bucket_step": bucket_step,
            "row_multiple": row_multiple,
        }
        self._copies = copies
        self.weighted = shards.weighted
        self._steps = [self._count_steps(counts) for counts in shards.pairs_by_length]
        self.steps_per_epoch = sum(self._steps)
        self.batch_tokens = batch_tokens
        self.tokens = shards.tokens
        self.too_long = shards.too_long

    def _count_steps(self, pairs_by_length: np.ndarray) -> int:
        lengths = np.repeat(np.arange(len(pairs_by_length)), pairs_by_length)
        if not len(lengths):  # All of its pairs were too long.
            return 0
        return Buckets(lengths, "pair", shuffle=False, seed=0, **self._options).steps_per_epoch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch; see `EpochBatches.epoch`.

        Raises:
            InputError: A shard is missing or damaged.
        """
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._steps))
        for number in order:
            if first_step < self._steps[number]:
                # Without a name, so that it is freed before the next one is read.
                yield from self._read(int(number)).epoch(epoch, first_step)
            first_step = max(first_step - self._steps[number], 0)

    def _read(self, number: int) -> TokenBatches:
        seed = np.random.SeedSequence([self._seed, number]).generate_state(1, np.uint64)[0]
        return TokenBatches(
            *self._shards.read(number),
            weights=self._shards.read_weights(number),
            seed=int(seed),
            copies=self._copies,
            special_ids=self._shards.special_ids,
            **self._options,
        )
