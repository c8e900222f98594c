"""What decoding keeps from step to step, and what each hypothesis may see of it.

Letters: B sentences, K hypotheses of each, H heads, D the width. A slot is the cache's entry for
one hypothesis at one position; position p of hypothesis k is slot p * K + k. A search that reorders
its hypotheses moves nothing in the cache: it changes which slots each of them sees.
"""

from typing import Any, NamedTuple, Self

import keras
from keras import ops

from ktransformer.layers.tensors import Heads, Size

# Subtracted from a score, it makes exp() of it exactly 0, in float32 and for any score. (Why not
# added: TensorFlow 2.21 on oneDNN fuses a product with a sum behind it, and in a loop the fused
# graph may return nothing at all.)
PENALTY = 1e9


def memory_mask_penalty(mask: Any) -> Any:
    """Turns a memory's mask, boolean `[B, S]`, into what steps subtract: `[B, 1, 1, S]`."""
    return ops.expand_dims(ops.where(mask, 0.0, PENALTY), (1, 2))


class Positions(NamedTuple):
    """Where queries `[T]` and keys `[S]` stand, as ints, each in its own sequence."""

    queries: Heads
    keys: Any

    @classmethod
    def from_start(cls, query_length: Size, key_length: Size) -> "Positions":
        """Returns the positions of whole sequences."""
        return cls(ops.arange(query_length, dtype="int32"), ops.arange(key_length, dtype="int32"))


class KeyValues(NamedTuple):
    """Keys and values of some positions.

    Attributes:
        key: Float tensor `[B, H, S, D/H]`.
        value: Float tensor `[B, H, S, D/H]`.
    """

    key: Heads
    value: Heads

    @property
    def plain_key(self) -> Heads:
        """The keys `[B, H, S, D/H]`, however they are stored."""
        return self.key

    def append(self, more: "KeyValues") -> Self:
        """Returns these and, after them, the keys and values of more positions."""
        key = ops.concatenate([self.plain_key, more.plain_key], axis=2)
        return self._replace(key=key, value=ops.concatenate([self.value, more.value], axis=2))

    def transposed(self) -> "TransposedKeyValues":
        """Returns the same with stored keys `[B, H, D/H, S]`."""
        return TransposedKeyValues(ops.transpose(self.key, (0, 1, 3, 2)), self.value)


class TransposedKeyValues(KeyValues):
    """`KeyValues` whose stored keys are `[B, H, D/H, S]`, as a matrix product wants them.

    Else every step would transpose them; see `StepContext.by_sums` for the steps that have none.
    """

    __slots__ = ()

    @property
    def plain_key(self) -> Heads:
        return ops.transpose(self.key, (0, 1, 3, 2))  # Undone in `compute_scores`.

    def append(self, more: KeyValues) -> Self:
        key = ops.concatenate([self.key, more.transposed().key], axis=3)
        return self._replace(key=key, value=ops.concatenate([self.value, more.value], axis=2))

    def transposed(self) -> "TransposedKeyValues":
        return self


def transpose_keys(memory: Any) -> Any:
    """Transposes each of the `KeyValues` in what `prepare_memory` returned."""
    return keras.tree.traverse(
        lambda part: part.transposed() if isinstance(part, KeyValues) else None, memory
    )


class Cache(NamedTuple):
    """What one self-attention remembers.

    A step writes into `recent`, which has room for a few positions, because what a loop changes
    is copied at every step. From time to time `flush` moves them to the end of `past`, which no
    step changes.

    Attributes:
        past: `KeyValues`; an empty tuple where `recent` has room for all there will be.
        recent: `KeyValues`.
    """

    past: Any
    recent: KeyValues

    def write(self, key: Heads, value: Heads, at: "StepContext") -> "Cache":
        """Returns the cache with a step's keys and values, `[B, H, K, D/H]`, in their slots.

        By a sum, because TensorFlow compiles an update of a slice anew for every shape.
        """
        return self._replace(
            recent=KeyValues(self.recent.key + at.spread(key), self.recent.value + at.spread(value))
        )

    def flush(self) -> "Cache":
        """Moves what is recent to the end of the past, and empties its slots."""
        empty = KeyValues(ops.zeros_like(self.recent.key), ops.zeros_like(self.recent.value))
        return Cache(self.past.append(self.recent), empty)


class SlicedCache(Cache):
    """A `Cache` without a past for loops that XLA compiles: a step changes its own slots alone."""

    __slots__ = ()

    def write(self, key: Heads, value: Heads, at: "StepContext") -> "SlicedCache":
        start = (0, 0, at.slot, 0)
        return self._replace(
            recent=KeyValues(
                ops.slice_update(self.recent.key, start, key),
                ops.slice_update(self.recent.value, start, value),
            )
        )

    def grow(self, slots: Size) -> "SlicedCache":
        """Adds empty slots."""
        more = ((0, 0), (0, 0), (0, slots), (0, 0))
        key, value = (ops.pad(heads, more) for heads in self.recent)
        return self._replace(recent=KeyValues(key, value))


class MaskPenalty(NamedTuple):
    """Which slots each hypothesis does not descend from: 1e9 there, 0 where it does.

    Subtracted from scores; see `PENALTY`.

    Attributes:
        past: Float32 `[B, K, slots]`, of a cache's past; an empty tuple where it has none.
        recent: Float32 `[B, K, slots]`, of what is recent.
    """

    past: Any
    recent: Any

    @classmethod
    def all_hidden(
        cls, rows: Size, length: Size, *, beam_size: int = 1, chunked: bool = False
    ) -> "MaskPenalty":
        """Hides all of an empty cache; see `MultiHeadSelfAttention.empty_cache`."""

        def hidden(positions: Any) -> Any:
            return ops.full((rows, beam_size, positions * beam_size), PENALTY, "float32")

        return cls(hidden(1) if chunked else (), hidden(length))

    @property
    def beam_size(self) -> int:
        """K, the hypotheses of a sentence."""
        beam_size: int = self.recent.shape[1]
        return beam_size

    @property
    def flushed(self) -> Any:
        """How many positions are past."""
        if isinstance(self.past, tuple):
            return 0
        return ops.shape(self.past)[2] // self.beam_size - 1

    def flush(self) -> "MaskPenalty":
        """Follows `Cache.flush`."""
        past = ops.concatenate([self.past, self.recent], axis=2)
        return MaskPenalty(past, ops.full_like(self.recent, PENALTY))

    def grow(self, slots: Size) -> "MaskPenalty":
        """Follows `SlicedCache.grow`."""
        more = ((0, 0), (0, 0), (0, slots))
        return self._replace(recent=ops.pad(self.recent, more, constant_values=PENALTY))


class DecoderState(NamedTuple):
    """All that a decoder changes from step to step; the first axis of every tensor is B.

    Attributes:
        caches: A `Cache` per block.
        penalty: What each hypothesis may not see of them.
        attention: Float32 `[B, K, S]`, the cross-attention weights of the last block, averaged
            over the heads and summed over the steps so far; an empty tuple where nobody asks for
            them. To have a step add to it, replace it by zeros before the first step.
    """

    caches: tuple[Cache, ...]
    penalty: MaskPenalty
    attention: Any = ()

    def flush(self) -> "DecoderState":
        """Makes room for new positions, when what is recent is full."""
        caches = tuple(cache.flush() for cache in self.caches)
        return self._replace(caches=caches, penalty=self.penalty.flush())

    @property
    def is_sliced(self) -> bool:
        """Whether it is for a loop that XLA compiles; see `sliced`."""
        return isinstance(self.caches[0], SlicedCache)

    def sliced(self) -> "DecoderState":
        """Returns the same state, not chunked, for a loop that XLA compiles; see `SlicedCache`."""
        return self._replace(caches=tuple(SlicedCache(*cache) for cache in self.caches))

    def grow(self, positions: Size) -> "DecoderState":
        """Makes room for more positions in a state that is `sliced`."""
        slots = positions * self.penalty.beam_size
        sliced: Any = self.caches
        caches = tuple(cache.grow(slots) for cache in sliced)
        return self._replace(caches=caches, penalty=self.penalty.grow(slots))


class StepContext(NamedTuple):
    """Where a step stands and what it may see: the same for every block.

    Attributes:
        positions: Int32 `[K]`, the step's position, once for each hypothesis.
        slot: Int32 scalar, the first of the K recent slots that the hypotheses fill.
        newest: Float32 `[slots / K, 1]`, 1 at the recent position that the step fills, 0 elsewhere.
        penalty: What each hypothesis may not see of a cache; its own new slot is not among it.
        memory_penalty: Float32 `[B, 1, 1, S]`, what `memory_mask_penalty` gave.
        cross_weights: A list to which the cross-attention of each block appends its weights,
            `[B, H, K, S]`; None where nobody asks for them.
        by_sums: Whether attention multiplies its one query with keys and values element by
            element, and sums. TensorFlow and LiteRT run a matrix product for each head, which
            takes longer; XLA is slower at the sums.
    """

    positions: Any
    slot: Any
    newest: Any
    penalty: MaskPenalty
    memory_penalty: Any
    cross_weights: list[Any] | None = None
    by_sums: bool = False

    @classmethod
    def at(
        cls,
        index: Size,
        penalty: MaskPenalty,
        memory_penalty: Any = (),
        *,
        compiled: bool = False,
    ) -> "StepContext":
        """Places a step at position `index`, after the steps that led to `penalty`.

        `compiled` says whether XLA compiles it.
        """
        beam_size, index = penalty.beam_size, ops.cast(index, "int32")
        hypotheses = ops.arange(beam_size, dtype="int32")
        position = index - penalty.flushed  # Among the recent ones.
        slot = position * beam_size
        number = ops.shape(penalty.recent)[2]  # Of the recent slots.
        is_own = ops.arange(number, dtype="int32") == ops.expand_dims(slot + hypotheses, 1)
        is_newest = ops.arange(number // beam_size, dtype="int32") == position
        return cls(
            positions=index + ops.zeros_like(hypotheses),
            slot=slot,
            newest=ops.cast(ops.expand_dims(is_newest, 1), "float32"),
            penalty=MaskPenalty(penalty.past, ops.where(is_own, 0.0, penalty.recent)),
            memory_penalty=memory_penalty,
            by_sums=beam_size == 1 and not compiled,
        )

    def spread(self, heads: Heads) -> Heads:
        """Puts a step's `[B, H, K, D/H]` into the recent slots that it fills.

        Returns:
            Float tensor `[B, H, slots, D/H]`, 0 in all other slots.
        """
        beam_size, newest = self.penalty.beam_size, ops.cast(self.newest, heads.dtype)
        if beam_size == 1:
            return heads * newest
        number, width = heads.shape[1], heads.shape[3]
        rows = ops.reshape(heads, (-1, number, 1, beam_size * width)) * newest
        return ops.reshape(rows, (-1, number, ops.shape(self.penalty.recent)[2], width))

    @property
    def recent_positions(self) -> Positions:
        """Where the hypotheses and the recent slots stand; those still free, at the newest."""
        slots = ops.arange(ops.shape(self.penalty.recent)[2], dtype="int32")
        keys = self.penalty.flushed + slots // self.penalty.beam_size
        return Positions(self.positions, ops.minimum(keys, self.positions[:1]))

    @property
    def past_positions(self) -> Positions:
        """Where the hypotheses and the slots of the past stand; the first, nobody's, at 0."""
        slots = ops.arange(ops.shape(self.penalty.past)[2], dtype="int32")
        return Positions(self.positions, ops.maximum(slots // self.penalty.beam_size - 1, 0))
