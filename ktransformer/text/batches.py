"""Batches of pairs of token ids for a Transformer."""

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.buckets import Buckets, JoinedIds, Slot
from ktransformer.text.special_ids import DEFAULT_SPECIAL_IDS, SpecialIds

if TYPE_CHECKING:
    import tensorflow as tf

    from ktransformer.text.sampling import SubwordSampler
    from ktransformer.text.symbol_inserter import SymbolInserter

# The model's inputs, by name or a single array, the labels, and possibly the weights `[B]`.
Batch = tuple[Any, np.ndarray] | tuple[Any, np.ndarray, np.ndarray]


class EpochBatches(abc.ABC):
    """Batches for `fit`, each a function of epoch and step.

    Attributes:
        inputs: Names of the model's inputs, each of two axes; none where it takes a tensor.
        steps_per_epoch: Batches in an epoch.
        batch_tokens: The most tokens of a batch on each side.
        tokens: Tokens of an epoch, counting the longer side of each pair, without padding.
        too_long: Pairs left out because of their length.
        failure: The error that ended a `dataset`, of which TensorFlow reports only the message;
            None if there was none.
        weighted: Whether a batch has a third part, the weights of its rows.
    """

    inputs: ClassVar[tuple[str, ...]] = ("source", "target")
    steps_per_epoch: int
    batch_tokens: int
    tokens: int
    too_long: int
    failure: InputError | None = None
    weighted: bool = False

    @abc.abstractmethod
    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch, counted from 0, beginning with `first_step`.

        Each is `({"source": [B, S], "target": [B, T]}, labels [B, T])`, int32. The target is the
        labels shifted by one position, after the start token. Where `weighted`, the weights `[B]`
        follow, float32: `fit` multiplies the losses of a row's tokens by its weight.
        """

    def stream(self, first_update: int = 0) -> Iterator[Batch]:
        """Yields epoch after epoch, endlessly: give `fit` the `steps_per_epoch`, too.

        Args:
            first_update: The number of batches to skip, over all epochs.
        """
        for epoch, first_step in self._epochs(first_update):
            yield from self.epoch(epoch, first_step)

    def _epochs(self, first_update: int) -> Iterator[tuple[int, int]]:
        """Yields each epoch from an update on, endlessly, and the step it begins at."""
        first_epoch, first_step = divmod(first_update, self.steps_per_epoch)
        yield first_epoch, first_step
        for epoch in itertools.count(first_epoch + 1):
            yield epoch, 0

    def dataset(self, first_update: int = 0) -> "tf.data.Dataset":
        """Returns the batches of `stream` as a dataset for TensorFlow's trainer."""
        import tensorflow as tf

        from ktransformer.text.without_autotune import without_autotune

        signature: Any = (self.input_specs(), tf.TensorSpec((None, None), tf.int32))
        if self.weighted:
            signature += (tf.TensorSpec((None,), tf.float32),)
        batches = tf.data.Dataset.from_generator(
            lambda: self._stream_for_tensorflow(first_update), output_signature=signature
        )
        return without_autotune(batches.prefetch(4))

    def input_specs(self) -> Any:
        """Returns the `tf.TensorSpec`s of the model's inputs."""
        import tensorflow as tf

        ids = tf.TensorSpec((None, None), tf.int32)
        return dict.fromkeys(self.inputs, ids) if self.inputs else ids

    def _stream_for_tensorflow(self, first_update: int) -> Iterator[Batch]:
        self.failure = None
        try:
            yield from self.stream(first_update)
        except InputError as error:
            self.failure = error
            raise


class TokenBatches(EpochBatches):
    """Batches of encoded pairs for `model.fit`.

    A pair goes into the first bucket that its longer side fits into. All batches of a bucket have
    one shape, `batch_tokens // length` rows of `length` ids a side; the last one is filled up with
    rows of padding, which neither the model nor the loss sees. A batch depends only on seed, epoch
    and step.

    With `samplers`, every epoch has new segmentations. `sources` and `targets` still decide which
    pairs share a batch; its length is that of the longest drawn segmentation, rounded up to
    `bucket_step`. A pair whose drawn segmentation exceeds `max_length` keeps its usual one.

    Args:
        sources: Int arrays `[S]`, one for each pair, the end token included; or `JoinedIds`.
        targets: Int arrays `[T]`, likewise.
        batch_tokens: The most tokens of a batch on each side, padding included.
        max_length: Pairs with a side longer than this many tokens, the end token included, are
            left out; `too_long` counts them.
        bucket_step: Distance between two buckets' lengths, in tokens.
        shuffle: Whether every epoch has another order.
        seed: Seed of the order and of the `samplers`.
        samplers: A sampler of the sources and one of the targets, for the same lines.
        inserter: Puts symbols into the pairs of each epoch; these count as drawn, too.
        copies: Number of times that a batch repeats its rows; `RDrop` needs 2. `batch_tokens`
            counts them once.
        row_multiple: The number of rows of every batch is a multiple of this, for devices that
            share a batch: rows of padding are added. The pairs of a batch stay the same.
        special_ids: The target tokenizer's `special_ids`; the padding is that of both sides.
        weights: The weight of each pair in the loss, above 0; None for 1.

    Raises:
        InputError: Sides or weights differ in number, a side is no ids, no pair is short enough, or
            `batch_tokens` is below `max_length`.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray] | JoinedIds,
        targets: Sequence[np.ndarray] | JoinedIds,
        *,
        batch_tokens: int,
        max_length: int,
        bucket_step: int = 4,
        shuffle: bool = True,
        seed: int = 0,
        samplers: "tuple[SubwordSampler, SubwordSampler] | None" = None,
        inserter: "SymbolInserter | None" = None,
        copies: int = 1,
        row_multiple: int = 1,
        special_ids: SpecialIds = DEFAULT_SPECIAL_IDS,
        weights: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        if len(sources) != len(targets):
            raise InputError(
                "sources and targets must be as many; "
                f"got {len(sources)} sources and {len(targets)} targets."
            )
        if weights is not None and len(weights) != len(sources):
            raise InputError(
                "weights must be as many as the pairs; "
                f"got {len(weights)} weights and {len(sources)} pairs."
            )
        if not len(sources):
            raise InputError("There is no pair to make batches of.")
        self._sides = _join(sources), _join(targets)
        self._samplers, self._inserter, self._seed, self._copies = samplers, inserter, seed, copies
        self._draws = samplers is not None or inserter is not None
        self._max_length, self._step = max_length, bucket_step
        self._special_ids = special_ids
        self._weights = None if weights is None else np.asarray(weights, "float32")
        self.weighted = weights is not None
        lengths = np.maximum(*(side.lengths for side in self._sides))
        self._buckets = Buckets(
            lengths,
            "pair",
            batch_tokens=batch_tokens,
            max_length=max_length,
            bucket_step=bucket_step,
            shuffle=shuffle,
            seed=seed,
            row_multiple=row_multiple,
        )
        self.batch_tokens = batch_tokens
        self.tokens = int(lengths[lengths <= max_length].sum())
        self.too_long = self._buckets.too_long
        self.steps_per_epoch = self._buckets.steps_per_epoch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        sides = self._sample(epoch) if self._draws else self._sides
        for slot in itertools.islice(self._buckets.epoch(epoch), first_step, None):
            yield self._batch(slot, *sides)

    def _sample(self, epoch: int) -> tuple[JoinedIds, JoinedIds]:
        """Draws an epoch's ids of both sides."""
        draws = self._sides
        if self._samplers is not None:
            source, target = (
                sampler.sample(np.random.default_rng([self._seed, epoch, i]))
                for i, sampler in enumerate(self._samplers)
            )
            draws = source, target
        if self._inserter is not None:
            draws = self._inserter.insert(*draws, np.random.default_rng([self._seed, epoch, 2]))
        fits = np.maximum(*(draw.lengths for draw in draws)) <= self._max_length
        source, target = (
            JoinedIds.choose(fits, draw, side)
            for draw, side in zip(draws, self._sides, strict=True)
        )
        return source, target

    def _batch(self, slot: Slot, sources: JoinedIds, targets: JoinedIds) -> Batch:
        length, pad_id = slot.length, self._special_ids.pad
        if self._draws:
            longest = max(side.lengths_at(slot.rows).max() for side in (sources, targets))
            length = min(-(-longest // self._step) * self._step, self._max_length)
        source = sources.padded(slot.rows, slot.size, length, pad_id)
        labels = targets.padded(slot.rows, slot.size, length, pad_id)
        start = np.full((slot.size, 1), self._special_ids.start, "int32")
        target = np.concatenate([start, labels[:, :-1]], axis=1)
        # A row of padding has no start token.
        target = np.where(labels == pad_id, pad_id, target).astype("int32")
        source, target, labels = (
            np.tile(ids, (self._copies, 1)) for ids in (source, target, labels)
        )
        inputs = {"source": source, "target": target}
        if self._weights is None:
            return inputs, labels
        weights = np.pad(self._weights[slot.rows], (0, slot.size - len(slot.rows)))
        return inputs, labels, np.tile(weights, self._copies)


def with_weights(batch: Batch) -> Batch:
    """Returns a batch with a weight of 1 for each row if it has none."""
    return batch if len(batch) == 3 else (*batch, np.ones(len(batch[1]), "float32"))


def _join(ids: Sequence[np.ndarray] | JoinedIds) -> JoinedIds:
    return ids if isinstance(ids, JoinedIds) else JoinedIds.join(ids)
