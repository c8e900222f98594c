"""Sinusoids of fixed frequencies, added to the token vectors."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from ktransformer.layers.positions.encoding import PositionEncoding


def sinusoidal_positions(length: int, d_model: int, *, interleaved: bool = False) -> np.ndarray:
    """Computes the sinusoidal position table.

    Args:
        length: Number of positions.
        d_model: D, the width; even.
        interleaved: True puts a frequency's sine and cosine side by side (the paper's formula);
            False puts all sines first (the paper's own code, and Marian).

    Returns:
        Float32 array `[length, D]`.

    Raises:
        ValueError: `d_model` is odd.

    Reference: Vaswani et al. 2017, section 3.5.
    """
    if d_model % 2:
        raise ValueError(f"d_model must be even for sinusoidal positions; got d_model={d_model}.")
    frequencies = 10000.0 ** (-np.arange(0, d_model, 2) / d_model)  # [D/2]
    angles = np.arange(length)[:, None] * frequencies  # [length, D/2]
    if interleaved:
        table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, d_model)
    else:
        table = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    return table.astype("float32")


@keras.saving.register_keras_serializable(package="ktransformer")
@dataclasses.dataclass(frozen=True)
class Sinusoidal(PositionEncoding):
    """Adds sines and cosines of the position to the token vectors.

    Args:
        interleaved: See `sinusoidal_positions`.

    Reference: Vaswani et al. 2017, section 3.5.
    """

    interleaved: bool = False

    def build_embedding(self, layer: Any) -> None:
        """Computes the table `[max_length, D]`; raises a `ValueError` for an odd D."""
        layer.sinusoids = sinusoidal_positions(
            layer.max_length, layer.d_model, interleaved=self.interleaved
        )

    def vectors(self, layer: Any, positions: Any) -> Any:
        """Returns the rows of the table, `[T, D]` or `[B, T, D]`."""
        return ops.take(ops.cast(layer.sinusoids, layer.compute_dtype), positions, axis=0)
