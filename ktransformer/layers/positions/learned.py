"""A learned vector for each position, added to the token vectors."""

import dataclasses
from typing import Any

import keras
from keras import ops

from ktransformer.layers.positions.encoding import PositionEncoding


@keras.saving.register_keras_serializable(package="ktransformer")
@dataclasses.dataclass(frozen=True)
class Learned(PositionEncoding):
    """Adds a learned vector for each position to the token vectors.

    Reference: Gehring et al. 2017, section 3.1; Devlin et al. 2019, section 3.
    """

    def build_embedding(self, layer: Any) -> None:
        """Adds the weight `position_embeddings`, `[max_length, D]`."""
        layer.position_embeddings = layer.add_weight(
            shape=(layer.max_length, layer.d_model),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="position_embeddings",
        )

    def vectors(self, layer: Any, positions: Any) -> Any:
        """Returns the rows of the table, `[T, D]` or `[B, T, D]`."""
        return ops.take(ops.cast(layer.position_embeddings, layer.compute_dtype), positions, axis=0)
