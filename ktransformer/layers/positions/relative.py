"""Relative bias (T5): a learned number for each head and each bucket of distances."""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from ktransformer.layers.cache import Positions
from ktransformer.layers.positions.encoding import PositionEncoding


def relative_buckets(
    distances: np.ndarray, *, num_buckets: int, max_distance: int, bidirectional: bool
) -> np.ndarray:
    """Sorts distances into buckets: one each while they are short, then wider and wider.

    Args:
        distances: Ints, the key's position minus the query's.
        num_buckets: The number of buckets.
        max_distance: The distance from which all share the last bucket.
        bidirectional: True gives keys after the query half of the buckets, the upper one; False
            puts them all into bucket 0.

    Returns:
        Int32 array of the shape of `distances`, in [0, num_buckets).

    Reference: Raffel et al. 2020, section 2.1, and their code.
    """
    buckets = num_buckets // 2 if bidirectional else num_buckets
    later = buckets * (distances > 0) if bidirectional else 0
    lengths = np.abs(distances) if bidirectional else np.maximum(-distances, 0)
    exact = buckets // 2
    growth = np.log(np.maximum(lengths, 1) / exact) / np.log(max_distance / exact)
    # The added amount keeps exact powers, such as 16 and 64, in the bucket that they begin.
    wide = exact + np.floor(growth * (buckets - exact) + 1e-9).astype("int32")
    near = np.where(lengths < exact, lengths, np.minimum(wide, buckets - 1))
    return (later + near).astype("int32")


@keras.saving.register_keras_serializable(package="ktransformer")
@dataclasses.dataclass(frozen=True)
class RelativeBias(PositionEncoding):
    """Adds a learned bias to the scores, by head and by the distance of query and key.

    Args:
        num_buckets: The number of biases of a head; at least 4, and even.
        max_distance: The distance from which all share a bias; above half of the buckets.

    Raises:
        ValueError: `num_buckets` or `max_distance` is out of its range.

    Reference: Raffel et al. 2020, section 2.1. Differences: each attention has its own table
        (there all layers of a stack share one), and the scores are divided by sqrt(d_k).
    """

    relative: ClassVar[bool] = True

    num_buckets: int = 32
    max_distance: int = 128

    def __post_init__(self) -> None:
        if self.num_buckets < 4 or self.num_buckets % 2:
            raise ValueError(
                f"num_buckets must be even and at least 4; got num_buckets={self.num_buckets}."
            )
        if self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                "max_distance must be above num_buckets / 2; "
                f"got max_distance={self.max_distance}, num_buckets={self.num_buckets}."
            )

    def build_attention(self, layer: Any) -> None:
        """Adds the weight `relative_bias`, `[num_buckets, H]`."""
        layer.relative_bias = layer.add_weight(
            shape=(self.num_buckets, layer.num_heads),
            initializer=keras.initializers.RandomNormal(stddev=layer.d_model**-0.5),
            autocast=False,
            name="relative_bias",
        )

    def bias(self, layer: Any, positions: Positions) -> Any:
        """Returns the rows of the distances' buckets, `[H, T, S]`."""
        farthest = self.max_distance
        buckets = relative_buckets(
            np.arange(-farthest, farthest + 1),
            num_buckets=self.num_buckets,
            max_distance=farthest,
            bidirectional=not layer.causal,
        )
        table = ops.take(ops.cast(layer.relative_bias, "float32"), buckets, axis=0)
        distances = positions.keys[None, :] - positions.queries[:, None]  # [T, S]
        rows = ops.clip(distances, -farthest, farthest) + farthest
        return ops.transpose(ops.take(table, rows, axis=0), (2, 0, 1))
