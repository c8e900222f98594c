"""Attention with linear biases (ALiBi): scores that fall with the distance."""

import dataclasses
import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from ktransformer.layers.cache import Positions
from ktransformer.layers.positions.encoding import PositionEncoding


def alibi_slopes(num_heads: int) -> np.ndarray:
    """Returns how fast each head's scores fall with the distance: float32 `[H]`.

    For a power of two, head i (from 1) has 2^(-8i / H). For another number, those of the power
    of two below it come first, then every second slope of the power of two above it.

    Reference: Press et al. 2022, section 3 (powers of two) and their code (other numbers).
    """
    below = 2 ** math.floor(math.log2(num_heads))
    slopes = 2.0 ** (-8 * np.arange(1, below + 1) / below)
    between = 2.0 ** (-8 * np.arange(1, 2 * below + 1, 2) / (2 * below))
    return np.concatenate([slopes, between])[:num_heads].astype("float32")


@keras.saving.register_keras_serializable(package="ktransformer")
@dataclasses.dataclass(frozen=True)
class ALiBi(PositionEncoding):
    """Lowers each score by its head's slope times the distance of query and key.

    Nothing is learned, and a sequence may be longer than any in training. Without causality the
    distance counts alike in both directions.

    Reference: Press et al. 2022, section 3, which is about causal attention alone.
    """

    relative: ClassVar[bool] = True

    def bias(self, layer: Any, positions: Positions) -> Any:
        """Returns `-slope * |query - key|`, `[H, T, S]`."""
        distances = ops.abs(positions.queries[:, None] - positions.keys[None, :])  # [T, S]
        slopes = alibi_slopes(layer.num_heads)[:, None, None]
        return ops.cast(distances, "float32") * -slopes
