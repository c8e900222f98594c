"""Rotary positions (RoPE): queries and keys turned by angles that grow with the position."""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from ktransformer.layers.positions.encoding import PositionEncoding
from ktransformer.layers.tensors import Heads


@keras.saving.register_keras_serializable(package="ktransformer")
@dataclasses.dataclass(frozen=True)
class Rotary(PositionEncoding):
    """Rotates pairs of features of every query and key, so that scores depend on distances alone.

    Feature i is paired with feature i + D/2H of its head, as in Llama: its weights fit without a
    permutation. (The paper pairs neighbours, which is the same up to the order of the features.)
    A cache holds rotated keys.

    Args:
        base: Pair i turns by `base ** (-2i / (D/H))` radians a position; above 0.

    Raises:
        ValueError: `base` is not above 0, or (when an attention is built) D/H is odd.

    Reference: Su et al. 2021, section 3.2; the layout of Touvron et al. 2023.
    """

    relative: ClassVar[bool] = True

    base: float = 10000.0

    def __post_init__(self) -> None:
        if not self.base > 0:
            raise ValueError(f"base must be above 0; got base={self.base}.")

    def build_attention(self, layer: Any) -> None:
        """Raises a `ValueError` where the features of a head do not make pairs."""
        if layer.head_dim % 2:
            raise ValueError(
                "d_model / num_heads must be even for rotary positions; "
                f"got d_model={layer.d_model}, num_heads={layer.num_heads}."
            )

    def transform(self, layer: Any, heads: Heads, positions: Any) -> Heads:
        """Rotates heads `[B, N, T, D/H]`."""
        size = layer.head_dim
        frequencies = (self.base ** (-np.arange(0, size, 2) / size)).astype("float32")  # [D/2H]
        angles = ops.expand_dims(ops.cast(positions, "float32"), 1) * frequencies  # [T, D/2H]
        cosines, sines = ops.cos(angles), ops.sin(angles)
        cosines = ops.cast(ops.concatenate([cosines, cosines], axis=1), heads.dtype)  # [T, D/H]
        sines = ops.cast(ops.concatenate([-sines, sines], axis=1), heads.dtype)
        first, second = ops.split(heads, 2, axis=-1)
        return heads * cosines + ops.concatenate([second, first], axis=-1) * sines
