"""Batches for the masked language model: some tokens hidden, others of them at every epoch."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text.buckets import Buckets, JoinedIds
from ktransformer.text.special_ids import SpecialIds
from ktransformer.text.without_autotune import without_autotune

_AS_MASK, _AS_ANOTHER = 0.8, 0.1  # The rest stays as it is.

Batch = tuple[dict[str, np.ndarray], np.ndarray]


class MaskedBatches:
    """Encoded lines, cut into batches for `fit`, with tokens to predict in each.

    Of a line's tokens a share is chosen, at least one. Of the chosen ones 80% become the mask
    token, 10% another ordinary piece, drawn evenly, and 10% stay. Padding, the end token and mask
    tokens that the text itself has are never chosen.

    A line goes into the first bucket that it fits into. All batches of a bucket have one shape:
    `batch_tokens // length` lines of `length` ids, with as many tokens to predict as its longest
    line has. A batch, its masks included, is a function of seed, epoch and step alone.

    Args:
        lines: Int arrays `[T]`, the end token included.
        special_ids: `tokenizer.special_ids`, with a mask; the ordinary pieces are the other ids
            below the mask.
        batch_tokens: The most tokens of a batch, padding included.
        max_length: Lines of more tokens than this, the end token included, are left out;
            `too_long` counts them.
        bucket_step: Distance between two buckets' lengths, in tokens.
        masked_share: Share of a line's tokens to choose, in (0, 1].
        fixed: True for validation text: every epoch has the same order and the same tokens
            masked.
        seed: Seed of the order and of the masks.

    Raises:
        InputError: There is no line, one of them holds other things than ids, none is short enough,
            or `batch_tokens` is below `max_length`.
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
    ) -> None:
        ordinary = special_ids.ordinary(special_ids.mask or 0)
        if not len(ordinary):
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
        self.too_long = self._buckets.too_long
        self.steps_per_epoch = self._buckets.steps_per_epoch

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yields the batches of one epoch, counted from 0.

        Each is `({"ids": [B, T], "positions": [B, M]}, labels [B, M])`, int32: the ids with masks,
        where to predict, and what stood there. M follows from T. Where a line has fewer than M,
        the last labels are padding and the positions 0.
        """
        for ids, seed in self._plain(epoch):
            inputs, labels = self._mask(tf.constant(ids), tf.constant(seed))
            yield {name: tensor.numpy() for name, tensor in inputs.items()}, labels.numpy()

    def dataset(self) -> tf.data.Dataset:
        """Returns epoch after epoch without an end; `fit` needs `steps_per_epoch` with it."""

        def plain() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for epoch in itertools.count():
                yield from self._plain(epoch)

        signature: Any = (tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((2,), tf.int32))
        batches = tf.data.Dataset.from_generator(plain, output_signature=signature)
        return without_autotune(batches.map(self._mask).prefetch(4))

    def _plain(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the ids `[B, T]` of each batch, and the seed `[2]` of its masks."""
        for step, slot in enumerate(self._buckets.epoch(epoch)):
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
        # A difference, and not the id itself: what is not chosen is at position 0 as well.
        changes = tf.where(chosen, written - tokens, 0)
        rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
        masked = tf.tensor_scatter_nd_add(ids, tf.stack([rows, positions], axis=-1), changes)
        labels = tf.where(chosen, tokens, self._special_ids.pad)
        return {"ids": masked, "positions": positions}, labels

    def _choose(self, ids: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws the tokens to predict: their positions, and which are real; both `[B, M]`."""
        special = self._special_ids
        eligible = (ids != special.pad) & (ids != special.end) & (ids != special.mask)
        counts = tf.gather(self._counts, tf.reduce_sum(tf.cast(eligible, tf.int32), axis=1))
        most = tf.gather(self._counts, tf.shape(ids)[1])  # M
        noise = tf.random.stateless_uniform(tf.shape(ids), seed)
        positions = tf.math.top_k(tf.where(eligible, noise, -1.0), most).indices
        chosen = tf.range(most) < counts[:, None]
        return tf.where(chosen, positions, 0), chosen


def _counts(max_length: int, masked_share: float) -> np.ndarray:
    """Computes how many tokens to choose of 0, 1, 2, ... `max_length`."""
    lengths = np.arange(max_length + 1)
    counts = np.maximum(np.floor(masked_share * lengths + 0.5), 1)
    return np.where(lengths == 0, 0, counts).astype("int32")
