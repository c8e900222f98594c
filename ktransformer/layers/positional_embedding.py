"""Token embeddings with positions: where ids become vectors and the mask begins."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers.checks import check_axes, check_dropouts, check_ids, check_sizes
from ktransformer.layers.output_shapes import DescribedLayer
from ktransformer.layers.positions import get as get_positions
from ktransformer.layers.positions import serialize as serialize_positions
from ktransformer.layers.tensors import Ids, Logits, Mask, Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class PositionalEmbedding(DescribedLayer):
    """Turns token ids into vectors that know their position, and starts the padding mask.

    The same table can serve as the output projection: `layer.logits(hidden)`, or, the same as a
    call, `layer(hidden, reverse=True)`.

    Args:
        vocabulary_size: V, the number of ids.
        d_model: D, the width of a vector.
        max_length: The longest sequence, in tokens.
        positions: `"sinusoidal"` (sines first), `"sinusoidal_interleaved"` or `"learned"`; or
            `"rotary"`, `"alibi"`, `"relative"` or `"none"`, which add nothing to token vectors;
            or a `PositionEncoding`.
        scale: Whether token vectors are multiplied by sqrt(D), which brings an embedding that
            is small enough to be an output projection to the size of the positions.
        pad_id: The id of padding.
        dropout: Probability of zeroing a feature of the sum, in [0, 1).
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Int tensor `[B, T]`, or floats of the same values; in reverse a float tensor
            `[B, T, D]`.
        training: Whether dropout is on.
        reverse: Whether to return `logits(inputs)`.
        position_ids: Int tensor `[B, T]`, the position of each id; None for 0, 1, ... in every
            row.

    Returns:
        Float tensor `[B, T, D]`; in reverse logits `[B, T, V]`.

    Raises:
        ValueError: A size is below 1, `dropout` is not in [0, 1), `positions` is unknown, D is odd
            with sinusoidal positions, T (where it is known in advance) is over `max_length`, the
            inputs have another number of axes, or an id is not in [0, V). A graph has no values
            to check: there such an id is an error of TensorFlow on a CPU, NaN on JAX, and zeros
            or the last row with TensorFlow on a GPU or under XLA.

    Masking: starts it: `inputs != pad_id`, `[B, T]`; in reverse passed through unchanged.

    Example:
        ```python
        embedding = PositionalEmbedding(8000, 64, max_length=256)
        vectors = embedding(np.array([[5, 9, 3, 0]]))  # (1, 4, 64); mask T T T F
        logits = embedding.logits(vectors)  # (1, 4, 8000)
        ```

    Reference: Vaswani et al. 2017, sections 3.4 (scaling and tying) and 3.5 (positions).
    """

    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {"call": ("embed",)}

    def __init__(
        self,
        vocabulary_size: int,
        d_model: int,
        *,
        max_length: int,
        positions: Any = "sinusoidal",
        scale: bool = True,
        pad_id: int = 0,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # Half precision would round float ids above 256 to other ids.
        check_sizes(vocabulary_size=vocabulary_size, d_model=d_model, max_length=max_length)
        check_dropouts(dropout=dropout)
        self.vocabulary_size = vocabulary_size
        self.d_model = d_model
        self.max_length = max_length
        self.positions = get_positions(positions)
        self.scale = scale
        self.pad_id = pad_id
        self.dropout = dropout
        self.sum_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="sum_dropout"
        )

    def build(self, input_shape: Shape = None) -> None:
        """Creates the embedding table, and what the positions add."""
        self.embeddings = self.add_weight(
            shape=(self.vocabulary_size, self.d_model),
            initializer=keras.initializers.RandomNormal(stddev=self.d_model**-0.5),
            name="embeddings",
        )
        self.positions.build_embedding(self)

    def compute_mask(self, inputs: Ids, mask: Mask | None = None) -> Mask:
        """Marks the real tokens: `[B, T]`, True where the id is not `pad_id`.

        Of vectors `[B, T, D]`, which the layer takes in reverse, it returns their own mask.
        """
        if len(inputs.shape) == 3:
            return mask
        return ops.not_equal(inputs, self.pad_id)

    def embed(self, ids: Ids, start_index: Any = 0, position_ids: Ids | None = None) -> Vectors:
        """Sums token and position vectors, if any, without dropout: `[B, T] -> [B, T, D]`.

        `start_index` is the position of the first id. `position_ids`, `[B, T]`, are the positions
        of all ids, which then need not follow each other.

        Raises:
            ValueError: The ids are symbolic: a functional model would use a copy of the table.
        """
        self._refuse_symbolic("embed", ids, "embedding(ids)")
        length = ops.shape(ids)[1]
        if isinstance(length, int) and length > self.max_length:
            raise ValueError(
                "A sequence must not be longer than max_length; "
                f"got {length} tokens, max_length={self.max_length}."
            )
        ids = ops.cast(ids, "int32")  # Keras saves a model as if every input were a float.
        tokens = ops.take(ops.cast(self.embeddings, self.compute_dtype), ids, axis=0)
        if self.scale:
            tokens = tokens * ops.cast(self.d_model**0.5, self.compute_dtype)
        if position_ids is None:
            position_ids = start_index + ops.arange(length, dtype="int32")
        vectors = self.positions.vectors(self, position_ids)
        return tokens if vectors is None else tokens + vectors

    def call(
        self,
        inputs: Ids,
        training: bool | None = None,
        reverse: bool = False,
        position_ids: Ids | None = None,
    ) -> Vectors:
        if reverse:
            check_axes("inputs", inputs, "[B, T, D]")
            return self.logits(ops.cast(inputs, self.compute_dtype))
        # A subclass whose `embed` has no position_ids works where none are given.
        options = {} if position_ids is None else {"position_ids": position_ids}
        return self.sum_dropout(self.embed(self.checked_ids(inputs), **options), training=training)

    def checked_ids(self, inputs: Ids) -> Ids:
        """Returns ids `[B, T]` as `embed` takes them; raises for what `call` does not take."""
        check_axes("inputs", inputs, "[B, T]")
        check_ids("inputs", inputs, self.vocabulary_size)
        # Below 0 is no row from the end.
        return ops.where(inputs < 0, self.vocabulary_size, ops.cast(inputs, "int32"))

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, T, D]` for ids `[B, T]`, `[B, T, V]` for vectors `[B, T, D]`."""
        if len(input_shape) == 3:
            return (*input_shape[:2], self.vocabulary_size)
        return (*input_shape, self.d_model)

    def logits(self, hidden: Vectors) -> Logits:
        """Projects vectors onto the vocabulary by the same table.

        Vectors `[B, T, D]` give `[B, T, V]`, rows `[N, D]` give `[N, V]`. Symbolic ones, of a
        functional model, become a call of the layer in reverse: the table stays tied.

        Raises:
            ValueError: The vectors are symbolic, and a subclass overrides this method.
        """
        if isinstance(hidden, keras.KerasTensor):
            return self._symbolic_logits(hidden)
        table = ops.cast(self.embeddings, self.compute_dtype)
        rows = ops.reshape(hidden, (-1, self.d_model))  # A plain matrix product is the fastest.
        product = ops.matmul(rows, ops.transpose(table))
        if len(hidden.shape) == 2:
            return product
        return ops.reshape(product, (-1, ops.shape(hidden)[1], self.vocabulary_size))

    def _symbolic_logits(self, hidden: Vectors) -> Any:
        if type(self).logits is not PositionalEmbedding.logits:
            # The call would come back to the subclass's method, which is half done.
            self._refuse_symbolic("logits", hidden, "embedding(hidden, reverse=True)")
        if len(hidden.shape) == 2:
            return ops.squeeze(self(ops.expand_dims(hidden, axis=1), reverse=True), axis=1)
        return self(hidden, reverse=True)

    def _refuse_symbolic(self, method: str, tensor: Any, call: str) -> None:
        """Raises a `ValueError` where a functional model would copy the layer's weights."""
        if isinstance(tensor, keras.KerasTensor):
            raise ValueError(
                f"{method} of {type(self).__name__} takes no symbolic tensor: a functional model "
                f"would use a copy of its weights that is never trained; got {tensor}. "
                f"Call the layer: {call}."
            )

    def get_config(self) -> dict[str, Any]:
        names = ("vocabulary_size", "d_model", "max_length", "scale", "pad_id", "dropout")
        config = {**super().get_config(), "positions": serialize_positions(self.positions)}
        return {**config, **{name: getattr(self, name) for name in names}}
