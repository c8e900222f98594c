"""The base class of positions: the steps at which an embedding and an attention ask for them."""

import dataclasses
from typing import Any, ClassVar

import keras

from ktransformer.layers.cache import Positions
from ktransformer.layers.tensors import Heads


@keras.saving.register_keras_serializable(package="ktransformer")
@dataclasses.dataclass(frozen=True)
class PositionEncoding:
    """Tells a model the order of its tokens; this base class tells it nothing (`"none"`).

    One object serves many layers, so it holds options alone, as the fields of a frozen dataclass.
    Weights belong to the layer: `build_embedding` and `build_attention` add them to it. A subclass
    overrides what it needs; the embedding and the attention both get the object, and each calls
    its own methods. Training, decoding with the cache and every export then follow, because the
    methods are told the positions and never assume that a sequence begins at 0.

    In a packed row (`segment_start_id` of a `CausalLanguageModel`) `vectors` is told positions that
    count from each text, `transform` and `bias` those in the row. So attention must depend on
    distances alone, and a class that overrides one of the two says so with `relative = True`.

    Example:
        ```python
        @keras.saving.register_keras_serializable(package="mine")
        @dataclasses.dataclass(frozen=True)
        class Window(PositionEncoding):
            relative = True
            width: int = 8

            def bias(self, layer, positions):
                distance = positions.queries[:, None] - positions.keys[None, :]
                return ops.where(ops.abs(distance) < self.width, 0.0, -1e9)[None]

        attention = MultiHeadSelfAttention(4, positions=Window(16))
        ```
    """

    relative: ClassVar[bool] = False
    """Whether `transform` and `bias` make scores that depend on distances alone."""

    def is_shift_invariant(self) -> bool:
        """Returns whether attention stays the same if all positions are shifted by one number."""
        own, base = type(self), PositionEncoding
        return self.relative or (own.transform is base.transform and own.bias is base.bias)

    def build_embedding(self, layer: Any) -> None:
        """Adds to an embedding the weights and constants that `vectors` uses.

        Args:
            layer: A `PositionalEmbedding`; its `d_model` and `max_length` are known.

        Raises:
            ValueError: The layer's sizes do not suit these positions.
        """

    def vectors(self, layer: Any, positions: Any) -> Any | None:
        """Returns the vectors that an embedding adds to its tokens.

        Args:
            layer: The embedding that `build_embedding` was given.
            positions: Int32 tensor `[T]`, or `[B, T]` for each row's own, each in
                [0, max_length).

        Returns:
            Float tensor `[T, D]`, or `[B, T, D]`, in the layer's compute dtype, or None to add
            nothing.
        """
        return None

    def build_attention(self, layer: Any) -> None:
        """Adds to a self-attention the weights that `transform` and `bias` use.

        Args:
            layer: A `MultiHeadSelfAttention`; its `d_model`, `num_heads`, `head_dim` and `causal`
                are known.

        Raises:
            ValueError: The layer's sizes do not suit these positions.
        """

    def transform(self, layer: Any, heads: Heads, positions: Any) -> Heads:
        """Changes queries, or keys, by their positions, before they meet or enter a cache.

        Args:
            layer: The attention that `build_attention` was given.
            heads: Float tensor `[B, N, T, D/H]`: N heads of queries, or of keys.
            positions: Int32 tensor `[T]`.

        Returns:
            Float tensor of the shape and dtype of `heads`.
        """
        return heads

    def bias(self, layer: Any, positions: Positions) -> Any | None:
        """Returns what is added to the scores of queries and keys.

        Args:
            layer: The attention that `build_attention` was given.
            positions: Int32 `queries` `[T]` and `keys` `[S]`. In a cached step the T queries are
                hypotheses at one position, and several keys may stand at one.

        Returns:
            Float32 tensor that broadcasts to `[H, T, S]`, or None to add nothing.
        """
        return None

    def get_config(self) -> dict[str, Any]:
        """Returns the options: the fields of the dataclass."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PositionEncoding":
        """Creates the object that `get_config` described."""
        return cls(**config)
