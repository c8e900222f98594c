"""Groups sequences of ids by length into batches of few shapes, in a seeded order."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ktransformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class JoinedIds:
    """Sequences of ids in one array.

    Attributes:
        flat: Int32 `[total]`, all ids one after another.
        starts: Int `[N + 1]`, the position of each sequence's first id, and the total.
    """

    flat: np.ndarray
    starts: np.ndarray

    @classmethod
    def join(cls, sequences: Sequence[np.ndarray]) -> "JoinedIds":
        """Joins sequences, at least one.

        Raises:
            InputError: A sequence is no array of integers with one axis.
        """
        arrays = [np.asarray(sequence) for sequence in sequences]
        for i, ids in enumerate(arrays):
            if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
                raise InputError(
                    "Sequences of ids must be arrays of integers with one axis, as "
                    f"Tokenizer.encode_lines gives; got {sequences[i]!r} as number {i}."
                )
        lengths = [len(ids) for ids in arrays]
        return cls(np.concatenate(arrays).astype("int32"), np.cumsum([0, *lengths]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The number of ids of each sequence."""
        return np.diff(self.starts)

    def lengths_at(self, rows: np.ndarray) -> np.ndarray:
        """Returns the number of ids of the sequences at `rows`, without computing the others."""
        return self.starts[rows + 1] - self.starts[rows]

    @classmethod
    def choose(cls, first: np.ndarray, one: "JoinedIds", other: "JoinedIds") -> "JoinedIds":
        """Takes sequences from `one` where `first`, boolean `[N]`, is True, else from `other`."""
        if first.all():
            return one
        both = JoinedIds(
            np.concatenate([one.flat, other.flat]),
            np.concatenate([one.starts, len(one.flat) + other.starts[1:]]),
        )
        rows = np.arange(len(first))
        return both.take(np.where(first, rows, rows + len(first)))

    def take(self, rows: np.ndarray) -> "JoinedIds":
        """Returns the sequences at `rows`, in that order."""
        lengths = self.lengths_at(rows)
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        flat = self.flat[np.repeat(self.starts[rows], lengths) + within]
        return JoinedIds(flat, np.concatenate([[0], ends]))

    def padded(self, rows: np.ndarray, size: int, length: int, pad_id: int) -> np.ndarray:
        """Returns the sequences at `rows`, padded to `length`, followed by rows of padding.

        Returns:
            Int32 `[size, length]`.
        """
        offsets = np.arange(length)
        inside = offsets[None, :] < self.lengths_at(rows)[:, None]
        places = np.where(inside, self.starts[rows][:, None] + offsets[None, :], 0)
        ids = np.where(inside, self.flat[places], pad_id).astype("int32")
        return np.pad(ids, ((0, size - len(rows)), (0, 0)), constant_values=pad_id)


@dataclasses.dataclass(frozen=True)
class Slot:
    """The sequences of one batch.

    Attributes:
        length: Tokens in a row.
        size: Number of rows, those of padding included.
        rows: Indices of the sequences, from one to `size` of them.
    """

    length: int
    size: int
    rows: np.ndarray


class Buckets:
    """Sorts sequences by length into batches of few shapes.

    A sequence goes into the first bucket that it fits into. All batches of a bucket have one shape:
    `batch_tokens // length` rows of `length` tokens, then rows of padding up to a multiple of
    `row_multiple`.

    Args:
        lengths: Int array `[N]`, the tokens of each sequence.
        unit: Name of a sequence in errors, such as `"pair"`.
        batch_tokens: The most tokens of a batch, padding included.
        max_length: Longer sequences are left out; `too_long` counts them.
        bucket_step: Distance between two buckets' lengths, in tokens.
        shuffle: Whether every epoch has another order.
        seed: Seed of the order.
        row_multiple: The number of rows is a multiple of this.

    Raises:
        InputError: `batch_tokens` is below `max_length`, or no sequence is short enough.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        unit: str,
        *,
        batch_tokens: int,
        max_length: int,
        bucket_step: int,
        shuffle: bool,
        seed: int,
        row_multiple: int = 1,
    ) -> None:
        check_batch_tokens(batch_tokens, max_length, unit)
        if bucket_step < 1:
            raise InputError(f"bucket_step must be at least 1; got {bucket_step}.")
        self._shuffle, self._seed, self._row_multiple = shuffle, seed, row_multiple
        self.too_long = int((lengths > max_length).sum())
        if self.too_long == len(lengths):
            raise InputError(f"No {unit} has at most max_length={max_length} tokens.")
        bucket_lengths = np.minimum(-(-lengths // bucket_step) * bucket_step, max_length)
        self._buckets = [
            (int(length), batch_tokens // int(length), np.flatnonzero(members))
            for length in np.unique(bucket_lengths)
            if (members := (bucket_lengths == length) & (lengths <= max_length)).any()
        ]
        self.steps_per_epoch = sum(-(-len(rows) // size) for _, size, rows in self._buckets)

    def epoch(self, epoch: int) -> Iterator[Slot]:
        """Yields the batches of one epoch, counted from 0."""
        random = np.random.default_rng([self._seed, epoch])
        plan = []
        for length, size, members in self._buckets:
            rows = random.permutation(members) if self._shuffle else members
            with_padding = -(-size // self._row_multiple) * self._row_multiple
            plan += [
                Slot(length, with_padding, rows[i : i + size]) for i in range(0, len(rows), size)
            ]
        if self._shuffle:
            random.shuffle(plan)
        yield from plan


def check_batch_tokens(batch_tokens: int, max_length: int, unit: str) -> None:
    """Checks that a batch has room for a sequence of `max_length` tokens.

    Raises:
        InputError: It has not.
    """
    if batch_tokens < max_length:
        raise InputError(
            f"batch_tokens must be at least max_length, or the longest {unit} has no batch; "
            f"got batch_tokens={batch_tokens}, max_length={max_length}."
        )
