"""Batches for a masked language model, with new masks in every epoch."""

import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text.batches import Batch, EpochBatches
from ktransformer.text.buckets import Buckets, JoinedIds
from ktransformer.text.special_ids import SpecialIds
from ktransformer.text.without_autotune import without_autotune

_AS_MASK, _AS_ANOTHER = 0.8, 0.1  # The rest stays as it is.


class MaskedBatches(EpochBatches):
    """Batches of encoded lines for `fit`, with tokens to predict.

    A share of each line's tokens is chosen, at least one token. Of the chosen tokens, 80% become
    the mask token, 10% a uniformly drawn ordinary piece, and 10% stay. Padding, the end token and
    mask tokens of the text are never chosen.

    A line goes into the first bucket that it fits into. All batches of a bucket have one shape:
    `batch_tokens // length` lines of `length` ids, with as many tokens to predict as its longest
    line needs. A batch and its masks depend only on seed, epoch and step.

    Args:
        lines: Int arrays `[T]`, the end token included.
        special_ids: `tokenizer.special_ids`, with a mask.
        ordinary_ids: `tokenizer.ordinary_ids`; None for the other ids below the mask. Give them for
            a `WordPieceTokenizer`: then the start token of a line is never chosen, either.
        batch_tokens: The most tokens of a batch, padding included.
        max_length: Lines of more tokens than this, the end token included, are left out;
            `too_long` counts them.
        bucket_step: Distance between two buckets' lengths, in tokens.
        masked_share: Share of a line's tokens to choose, in (0, 1].
        fixed: True for validation text: every epoch has the same order and the same tokens
            masked.
        seed: Seed of the order and of the masks.

    Raises:
        InputError: There is no line, one is no array of ids, none is short enough, or
            `batch_tokens` is below `max_length`.
        ValueError: `special_ids` has no mask, or one below which no ordinary piece is, or
            `masked_share` is not in (0, 1].

    Example:
        ```python
        tokenizer = Tokenizer.train(lines, vocabulary_size=8000, mask=True)
        batches = MaskedBatches(
            tokenizer.encode_lines(lines),
            special_ids=tokenizer.special_ids,
            batch_tokens=2048,
            max_length=128,
        )
        model.fit(batches.dataset(), steps_per_epoch=batches.steps_per_epoch, shuffle=False)
        ```

    Reference: Devlin et al. 2019, section 3.1 (the shares); Liu et al. 2019, section 4.1 (other
        masks at every epoch).
    """

    inputs = ("ids", "positions")

    def __init__(
        self,
        lines: Sequence[np.ndarray],
        *,
        special_ids: SpecialIds,
        batch_tokens: int,
        max_length: int,
        bucket_step: int = 4,
        masked_share: float = 0.15,
        fixed: bool = False,
        seed: int = 0,
        ordinary_ids: np.ndarray | None = None,
    ) -> None:
        ordinary = special_ids.ordinary(special_ids.mask or 0)
        self._never = [special_ids.pad, special_ids.end, special_ids.mask]
        if ordinary_ids is not None:
            ordinary = np.asarray(ordinary_ids, np.int32)
            self._never.append(special_ids.start)
        if special_ids.mask is None or not len(ordinary):
            raise ValueError(
                "special_ids must have a mask behind the ordinary pieces; "
                f"got mask={special_ids.mask}."
            )
        if not 0 < masked_share <= 1:
            raise ValueError(f"masked_share must be in (0, 1]; got masked_share={masked_share}.")
        if not lines:
            raise InputError("There is no line to make batches of.")
        self._lines = JoinedIds.join(lines)
        self._buckets = Buckets(
            self._lines.lengths,
            "line",
            batch_tokens=batch_tokens,
            max_length=max_length,
            bucket_step=bucket_step,
            shuffle=not fixed,
            seed=seed,
        )
        self._special_ids, self._ordinary = special_ids, ordinary
        self._fixed, self._seed = fixed, seed
        self._counts = _counts(max_length, masked_share)
        lengths = self._lines.lengths
        self.batch_tokens, self.tokens = batch_tokens, int(lengths[lengths <= max_length].sum())
        self.too_long = self._buckets.too_long
        self.steps_per_epoch = self._buckets.steps_per_epoch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch, counted from 0, from one of its steps on.

        Each is `({"ids": [B, T], "positions": [B, M]}, labels [B, M])`, int32: the masked ids, the
        positions to predict, and the original ids there. M depends only on T. For a line with
        fewer than M positions, the last labels are padding and the last positions 0.
        """
        for ids, seed in self._plain(epoch, first_step):
            inputs, labels = self._mask(tf.constant(ids), tf.constant(seed))
            yield {name: tensor.numpy() for name, tensor in inputs.items()}, labels.numpy()

    def dataset(self, first_update: int = 0) -> tf.data.Dataset:
        """Returns the batches of `stream`, masked in the graph of the data."""

        def plain() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for epoch, first_step in self._epochs(first_update):
                yield from self._plain(epoch, first_step)

        signature: Any = (tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((2,), tf.int32))
        batches = tf.data.Dataset.from_generator(plain, output_signature=signature)
        return without_autotune(batches.map(self._mask).prefetch(4))

    def _plain(self, epoch: int, first_step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the ids `[B, T]` of each batch, and the seed `[2]` of its masks."""
        slots = enumerate(self._buckets.epoch(epoch))
        for step, slot in itertools.islice(slots, first_step, None):
            place = [self._seed, 0 if self._fixed else epoch, step]
            seed = np.random.SeedSequence(place).generate_state(2).view("int32")
            yield self._lines.padded(slot.rows, slot.size, slot.length, self._special_ids.pad), seed

    def _mask(self, ids: tf.Tensor, seed: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        choice_seed, kind_seed, piece_seed = tf.unstack(tf.random.split(seed, 3))
        positions, chosen = self._choose(ids, choice_seed)
        tokens = tf.gather(ids, positions, batch_dims=1)  # [B, M]
        kinds = tf.random.stateless_uniform(tf.shape(tokens), kind_seed)
        drawn = tf.random.stateless_uniform(
            tf.shape(tokens), piece_seed, 0, len(self._ordinary), tf.int32
        )
        others = tf.gather(self._ordinary, drawn)
        written = tf.where(kinds < _AS_MASK + _AS_ANOTHER, others, tokens)
        written = tf.where(kinds < _AS_MASK, self._special_ids.mask, written)
        # Differences are added, because tokens that are not chosen are at position 0, too.
        changes = tf.where(chosen, written - tokens, 0)
        rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
        masked = tf.tensor_scatter_nd_add(ids, tf.stack([rows, positions], axis=-1), changes)
        labels = tf.where(chosen, tokens, self._special_ids.pad)
        return {"ids": masked, "positions": positions}, labels

    def _choose(self, ids: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws the positions to predict, and which of them are real; both `[B, M]`."""
        eligible = functools.reduce(operator.and_, [ids != special for special in self._never])
        counts = tf.gather(self._counts, tf.reduce_sum(tf.cast(eligible, tf.int32), axis=1))
        most = tf.gather(self._counts, tf.shape(ids)[1])  # M
        noise = tf.random.stateless_uniform(tf.shape(ids), seed)
        positions = tf.math.top_k(tf.where(eligible, noise, -1.0), most).indices
        chosen = tf.range(most) < counts[:, None]
        return tf.where(chosen, positions, 0), chosen


def _counts(max_length: int, masked_share: float) -> np.ndarray:
    """Returns the number of tokens to choose of lines of 0, 1, 2, ... `max_length` tokens."""
    lengths = np.arange(max_length + 1)
    counts = np.maximum(np.floor(masked_share * lengths + 0.5), 1)
    return np.where(lengths == 0, 0, counts).astype("int32")
