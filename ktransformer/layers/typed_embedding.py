"""The embedding of BERT: tokens, positions and token types, normed."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.block_config import NORMS
from ktransformer.layers.checks import check_choice, to_size
from ktransformer.layers.positional_embedding import PositionalEmbedding
from ktransformer.layers.tensors import Ids, Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class TypedEmbedding(PositionalEmbedding):
    """A `PositionalEmbedding` that adds a vector for each token's type, and norms the sum.

    Args:
        vocabulary_size: V, the number of ids.
        d_model: D, the width of a vector.
        type_vocabulary_size: The number of token types; 0 for none.
        norm: `"layer"` or `"rms"` for a norm of the sum, before the dropout; None for none.
        epsilon: Added to the variance in the norm.
        **options: Arguments of `PositionalEmbedding`.

    Call arguments:
        inputs: As for `PositionalEmbedding`.
        training: Whether dropout is on.
        reverse: Whether to return `logits(inputs)`.
        position_ids: As for `PositionalEmbedding`.
        token_types: Int tensor `[B, T]`, such as 0 in the first and 1 in the second sentence of a
            pair; None for 0 everywhere.

    Returns:
        Float tensor `[B, T, D]`; in reverse logits `[B, T, V]`.

    Raises:
        ValueError: See `PositionalEmbedding`; or `type_vocabulary_size` is below 0, `norm` is
            unknown, or `token_types` are given to a layer without token types.

    Masking: as for `PositionalEmbedding`.

    Example:
        ```python
        embedding = TypedEmbedding(
            8000, 64, max_length=256, positions="learned", type_vocabulary_size=2, norm="layer"
        )
        vectors = embedding(np.array([[2, 5, 3, 9, 3]]), token_types=np.array([[0, 0, 0, 1, 1]]))
        ```

    Reference: Devlin et al. 2019, section 3, figure 2; the norm is in their code alone.
    """

    def __init__(
        self,
        vocabulary_size: int,
        d_model: int,
        *,
        type_vocabulary_size: int = 0,
        norm: str | None = None,
        epsilon: float = 1e-5,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary_size, d_model, **options)
        self.type_vocabulary_size = to_size("type_vocabulary_size", type_vocabulary_size, least=0)
        self.norm = norm
        self.epsilon = epsilon
        self.sum_norm = None
        if norm is not None:
            check_choice("norm", norm, NORMS)
            self.sum_norm = NORMS[norm](epsilon=epsilon, dtype=self.dtype_policy, name="sum_norm")

    def build(self, input_shape: Shape = None) -> None:
        """Creates the tables, and the norm."""
        super().build(input_shape)
        if self.type_vocabulary_size:
            self.type_embeddings = self.add_weight(
                shape=(self.type_vocabulary_size, self.d_model),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                name="type_embeddings",
            )
        if self.sum_norm is not None:
            self.sum_norm.build((None, None, self.d_model))

    def embed(
        self,
        ids: Ids,
        start_index: Any = 0,
        position_ids: Ids | None = None,
        token_types: Ids | None = None,
    ) -> Vectors:
        """Sums and norms the vectors, without dropout: `[B, T] -> [B, T, D]`.

        Raises:
            ValueError: See `PositionalEmbedding.embed`; or there are no token types.
        """
        vectors = super().embed(ids, start_index, position_ids)
        if self.type_vocabulary_size:
            types = ops.cast(self.type_embeddings, self.compute_dtype)
            # Without a gather where all are of the first type.
            vectors = vectors + (
                types[0] if token_types is None else self._rows(types, token_types)
            )
        elif token_types is not None:
            raise ValueError("token_types need a type_vocabulary_size above 0; got 0.")
        return vectors if self.sum_norm is None else self.sum_norm(vectors)

    def _rows(self, types: Any, token_types: Ids) -> Vectors:
        # Below 0 is no row from the end.
        rows = ops.where(token_types < 0, self.type_vocabulary_size, ops.cast(token_types, "int32"))
        return ops.take(types, rows, axis=0)

    def call(
        self,
        inputs: Ids,
        training: bool | None = None,
        reverse: bool = False,
        position_ids: Ids | None = None,
        token_types: Ids | None = None,
    ) -> Vectors:
        if reverse:
            return super().call(inputs, training=training, reverse=True)
        vectors = self.embed(self.checked_ids(inputs), 0, position_ids, token_types)
        return self.sum_dropout(vectors, training=training)

    def get_config(self) -> dict[str, Any]:
        names = ("type_vocabulary_size", "norm", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
