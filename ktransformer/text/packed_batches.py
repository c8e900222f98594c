"""Batches for the causal language model: several texts a row, so that little is padding."""

import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.batches import Batch, EpochBatches
from ktransformer.text.buckets import JoinedIds, check_batch_tokens
from ktransformer.text.special_ids import DEFAULT_SPECIAL_IDS, SpecialIds


class PackedBatches(EpochBatches):
    """Encoded texts, packed into rows of one length for `fit`.

    A text of N tokens takes N places of a row: the start token and all of its tokens but the end
    token are inputs, and its own tokens are the labels. So the start token marks where a text
    begins, which a `CausalLanguageModel` with that `segment_start_id` needs to keep texts apart.
    Each text goes, longest first, into the fullest row that has room for it. Every epoch has
    another order of rows, and texts of the same length swap places. A batch is a function of
    seed, epoch and step alone.

    Args:
        texts: Int arrays `[N]`, one a text, the end token included.
        batch_tokens: The most tokens of a batch, padding included.
        max_length: Tokens of a row. Longer texts are left out; `too_long` counts them.
        shuffle: Whether every epoch has another order.
        seed: Seed of that order.
        row_multiple: The number of rows of every batch is a multiple of this, for devices that
            share it: rows of padding are added.
        special_ids: The tokenizer's `special_ids`.

    Raises:
        InputError: There is no text, one holds other things than ids, none is short enough, or
            `batch_tokens` is below `max_length`.

    Example:
        ```python
        batches = PackedBatches(tokenizer.encode_lines(lines), batch_tokens=4096, max_length=256)
        ids, labels = next(batches.epoch(0))  # int32 [16, 256] each
        ```
    """

    inputs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        texts: Sequence[np.ndarray],
        *,
        batch_tokens: int,
        max_length: int,
        shuffle: bool = True,
        seed: int = 0,
        row_multiple: int = 1,
        special_ids: SpecialIds = DEFAULT_SPECIAL_IDS,
    ) -> None:
        check_batch_tokens(batch_tokens, max_length, "text")
        if not len(texts):
            raise InputError("There is no text to make batches of.")
        joined = JoinedIds.join(texts)
        fits = np.flatnonzero((joined.lengths > 0) & (joined.lengths <= max_length))
        if not len(fits):
            raise InputError(f"No text has at most max_length={max_length} tokens.")
        self._texts = joined.take(fits)
        self._places = pack(self._texts.lengths, max_length)
        self._shuffle, self._seed, self._special_ids = shuffle, seed, special_ids
        self._length, self._rows = max_length, batch_tokens // max_length
        self._padded_rows = -(-self._rows // row_multiple) * row_multiple
        self.batch_tokens = batch_tokens
        self.tokens = len(self._texts.flat)
        self.too_long = int((joined.lengths > max_length).sum())
        self.steps_per_epoch = -(-self._places.rows // self._rows)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch, counted from 0, from one of its steps on.

        Each is `(ids, labels)`, int32 `[B, T]` with T = `max_length`.
        """
        rows, texts = np.arange(self._places.rows), np.arange(len(self._texts))
        if self._shuffle:
            random = np.random.default_rng([self._seed, epoch])
            random.shuffle(rows)
            shuffled = random.permutation(texts)
            lengths = self._texts.lengths
            # Both orders are by length, so that each text takes the place of one as long.
            texts[np.argsort(lengths, kind="stable")] = shuffled[
                np.argsort(lengths[shuffled], kind="stable")
            ]
        starts = range(0, len(rows), self._rows)
        for start in itertools.islice(starts, first_step, None):
            yield self._batch(rows[start : start + self._rows], texts)

    def _batch(self, rows: np.ndarray, texts: np.ndarray) -> Batch:
        """Writes the texts of some rows at their places."""
        row, members = self._places.members(rows)
        chosen = self._texts.take(texts[members])
        begins = row * self._length + self._places.offsets[members]  # In the flattened batch.
        places = np.repeat(begins - chosen.starts[:-1], chosen.lengths) + np.arange(
            len(chosen.flat)
        )
        shape, pad_id = (self._padded_rows, self._length), self._special_ids.pad
        labels = np.full(shape, pad_id, "int32")
        labels.flat[places] = chosen.flat
        ids = np.full(shape, pad_id, "int32")
        ids.flat[places] = np.concatenate([[pad_id], chosen.flat[:-1]])
        ids.flat[begins] = self._special_ids.start
        return ids, labels


class Places(NamedTuple):
    """The row and the offset of each of N texts.

    Attributes:
        rows: The number of rows.
        offsets: Int array `[N]`, where each text begins in its row.
        order: Int array `[N]`, the texts sorted by row.
        bounds: Int array `[rows + 1]`: row r holds the texts `order[bounds[r]:bounds[r + 1]]`.
    """

    rows: int
    offsets: np.ndarray
    order: np.ndarray
    bounds: np.ndarray

    def members(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the texts of some rows: their places in `rows`, and which texts they are."""
        parts = [self.order[self.bounds[row] : self.bounds[row + 1]] for row in rows]
        return np.repeat(np.arange(len(rows)), [len(part) for part in parts]), np.concatenate(parts)


def pack(lengths: np.ndarray, room: int) -> Places:
    """Packs texts into rows: the longest first, each into the fullest row that has room.

    Args:
        lengths: Int array `[N]`, the tokens of each text, from 1 to `room`.
        room: Tokens of a row.

    Reference: Johnson 1973 (best fit decreasing: at most 11/9 of the fewest rows, and one).
    """
    row_of, offsets = np.zeros(len(lengths), int), np.zeros(len(lengths), int)
    open_rows: list[list[int]] = [[] for _ in range(room + 1)]  # By the tokens that are left.
    left = 0  # Bit i is set where a row has i tokens left.
    rows = 0
    for text in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[text])
        fitting = left >> length
        if fitting:
            free = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[free].pop()
            left ^= (not open_rows[free]) << free
        else:
            row, free, rows = rows, room, rows + 1
        row_of[text], offsets[text] = row, room - free
        if free > length:
            open_rows[free - length].append(row)
            left |= 1 << (free - length)
    order = np.argsort(row_of, kind="stable")
    return Places(rows, offsets, order, np.searchsorted(row_of[order], np.arange(rows + 1)))
