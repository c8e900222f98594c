"""The two masks of the Transformer, widened and applied in one place.

One convention everywhere: boolean, True = attend. Layers carry `[B, S]`, or `[B, T, S]` where
the queries of a row see different keys; only the attention functions know the wide form
`[B, 1, T, S]`.
"""

import functools
from collections.abc import Sequence
from typing import Any

from keras import ops

from ktransformer.layers.tensors import Mask, Scores, Size

# Low enough that exp() of it is exactly 0 in float32, and finite, so that a row without a single
# True stays free of NaN.
_MASKED_SCORE = -1e9


def attention_mask(
    mask: Mask | None,
    *,
    query_length: Size,
    key_length: Size,
    causal: bool = False,
) -> Any | None:
    """Widens a padding mask for attention scores and adds causality.

    Args:
        mask: Boolean `[B, S]`, True at the real keys; `[B, T, S]`, True where a query sees a key;
            or None when every key is real.
        query_length: T, the number of queries.
        key_length: S, the number of keys.
        causal: Whether a query sees only the keys at its own position and before it.

    Returns:
        Boolean tensor that broadcasts to `[B, H, T, S]`, or None when everything is visible.

    Reference: Vaswani et al. 2017, section 3.2.3 (the decoder's mask).
    """
    wide = None
    if mask is not None:
        axes = 1 if len(mask.shape) == 3 else (1, 2)
        wide = ops.expand_dims(ops.cast(mask, "bool"), axes)  # [B, 1, T, S] or [B, 1, 1, S]
    if not causal:
        return wide
    query_positions = ops.arange(query_length, dtype="int32")
    key_positions = ops.arange(key_length, dtype="int32")
    past = key_positions[None, :] <= query_positions[:, None]  # [T, S]
    past = ops.expand_dims(past, (0, 1))  # [1, 1, T, S]
    return past if wide is None else ops.logical_and(wide, past)


def hide_scores(scores: Scores, mask: Mask | None) -> Scores:
    """Lowers the scores of masked keys so far that a softmax gives them a weight of exactly 0.

    Args:
        scores: Float32 tensor `[B, H, T, S]`.
        mask: Boolean tensor that broadcasts to `scores`, True = attend, or None.

    Returns:
        Float32 tensor `[B, H, T, S]`, finite in rows without a single True as well.
    """
    return scores if mask is None else ops.where(mask, scores, _MASKED_SCORE)


def sees_anything(masks: Sequence[Any | None]) -> Any | None:
    """Tells which queries see a key: the softmax of a row without any would see all alike.

    Args:
        masks: One for each span of keys; None hides nothing.

    Returns:
        Boolean tensor that broadcasts to `[B, H, T, 1]`, or None where every query sees a key.
    """
    if any(mask is None for mask in masks):
        return None
    seen = [ops.any(mask, axis=-1, keepdims=True) for mask in masks]
    return functools.reduce(ops.logical_or, seen)
