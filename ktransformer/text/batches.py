"""Batches of token ids by length: few shapes, a fixed number of tokens, an order that is seeded."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text.tokenizer import PAD_ID, START_ID

Batch = tuple[dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Ids:
    """Sequences of ids one after another, and where each begins."""

    flat: np.ndarray
    starts: np.ndarray

    @classmethod
    def join(cls, sequences: Sequence[np.ndarray]) -> "_Ids":
        lengths = [len(sequence) for sequence in sequences]
        return cls(np.concatenate(sequences).astype("int32"), np.cumsum([0, *lengths]))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def padded(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Returns the sequences at `rows` padded to `length`: int32 `[len(rows), length]`."""
        offsets = np.arange(length)
        inside = offsets[None, :] < self.lengths[rows][:, None]
        places = np.where(inside, self.starts[rows][:, None] + offsets[None, :], 0)
        return np.where(inside, self.flat[places], PAD_ID).astype("int32")


class TokenBatches:
    """Encoded pairs, cut into batches for `model.fit`.

    A pair goes into the first bucket that its longer side fits into. All batches of a bucket
    have one shape: `batch_tokens // length` rows of `length` ids a side; rows that are missing
    at the end of a bucket are filled with padding, which neither the model nor the loss sees.
    A batch is a function of seed, epoch and step alone.

    Args:
        sources: Int arrays `[S]`, one a pair, the end token included.
        targets: Int arrays `[T]`, likewise.
        batch_tokens: The most tokens of a batch on each side, padding included.
        max_length: Pairs with a side longer than this many tokens, the end token included, are
            left out; `too_long` counts them.
        bucket_step: Distance between two buckets' lengths, in tokens.
        shuffle: Whether every epoch has another order.
        seed: Seed of that order.

    Raises:
        InputError: The sides differ in number, there is no pair, none that is short enough, or
            `batch_tokens` is below `max_length`.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        *,
        batch_tokens: int,
        max_length: int,
        bucket_step: int = 4,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        if batch_tokens < max_length:
            raise InputError(
                "batch_tokens must be at least max_length, or the longest pair has no batch; "
                f"got batch_tokens={batch_tokens}, max_length={max_length}."
            )
        if len(sources) != len(targets):
            raise InputError(
                "sources and targets must be as many; "
                f"got {len(sources)} sources and {len(targets)} targets."
            )
        if not sources:
            raise InputError("There is no pair to make batches of.")
        self._sources, self._targets = _Ids.join(sources), _Ids.join(targets)
        self._shuffle, self._seed = shuffle, seed
        lengths = np.maximum(self._sources.lengths, self._targets.lengths)
        self.too_long = int((lengths > max_length).sum())
        if self.too_long == len(lengths):
            raise InputError(f"No pair has at most max_length={max_length} tokens on each side.")
        bucket_lengths = np.minimum(-(-lengths // bucket_step) * bucket_step, max_length)
        self._buckets = [
            (int(length), batch_tokens // int(length), np.flatnonzero(members))
            for length in np.unique(bucket_lengths)
            if (members := (bucket_lengths == length) & (lengths <= max_length)).any()
        ]
        self.steps_per_epoch = sum(-(-len(rows) // size) for _, size, rows in self._buckets)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yields the batches of one epoch, counted from 0.

        Each is `({"source": [B, S], "target": [B, T]}, labels [B, T])`: the target is the labels
        shifted by one, behind the start token.
        """
        random = np.random.default_rng([self._seed, epoch])
        plan = []
        for length, size, members in self._buckets:
            rows = random.permutation(members) if self._shuffle else members
            plan += [(length, size, rows[i : i + size]) for i in range(0, len(rows), size)]
        if self._shuffle:
            random.shuffle(plan)
        for length, size, rows in plan:
            yield self._batch(length, size, rows)

    def _batch(self, length: int, size: int, rows: np.ndarray) -> Batch:
        missing = ((0, size - len(rows)), (0, 0))
        source = np.pad(self._sources.padded(rows, length), missing, constant_values=PAD_ID)
        labels = np.pad(self._targets.padded(rows, length), missing, constant_values=PAD_ID)
        target = np.concatenate([np.full((size, 1), START_ID, "int32"), labels[:, :-1]], axis=1)
        # In a row of padding alone the start token is padding too.
        target = np.where(labels == PAD_ID, PAD_ID, target).astype("int32")
        return {"source": source, "target": target}, labels

    def dataset(self) -> tf.data.Dataset:
        """Returns epoch after epoch without an end; `fit` needs `steps_per_epoch` with it."""

        def batches() -> Iterator[Batch]:
            for epoch in itertools.count():
                yield from self.epoch(epoch)

        ids = tf.TensorSpec((None, None), tf.int32)
        signature: Any = ({"source": ids, "target": ids}, ids)
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(4)
