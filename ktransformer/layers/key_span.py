"""The keys and values that queries attend to, as one piece of memory."""

from typing import Any, NamedTuple

from ktransformer.layers.cache import Positions
from ktransformer.layers.tensors import Heads, Mask


class KeySpan(NamedTuple):
    """Keys and values that lie together, where they stand, and which of them are hidden.

    `call` attends to one span, the whole sequence; a cached step to one or two, because the past
    and the recent part of a cache lie apart.

    Attributes:
        key: Float tensor `[B, KV, S, D/H]`.
        value: Float tensor `[B, KV, S, D/H]`.
        positions: Of the queries `[T]` and of these keys `[S]`.
        mask: Boolean tensor that broadcasts to `[B, H, T, S]`, True = attend; None where nothing
            is hidden by it.
        penalty: Float32 tensor that broadcasts to `[B, H, T, S]`, 0 = attend and `PENALTY` =
            hidden; None outside of cached steps. A span has a mask or a penalty, never both.
        by_sums: Whether there is one query, which is multiplied as `StepContext.by_sums` says.
    """

    key: Heads
    value: Heads
    positions: Positions
    mask: Mask | None = None
    penalty: Any | None = None
    by_sums: bool = False
