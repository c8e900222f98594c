"""Multi-head attention: over the sequence itself, and over an encoder's memory."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.checks import check_dropouts, check_heads, check_sizes
from ktransformer.layers.masks import attention_mask, masked_softmax


class _MultiHeadAttention(keras.layers.Layer):
    """The steps that self- and cross-attention share; each can be overridden on its own.

    Project (in the subclasses), `compute_scores`, `compute_weights`, `attend`, `merge`.
    """

    def __init__(
        self,
        num_heads: int,
        *,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(num_heads=num_heads)
        check_dropouts(dropout=dropout)
        self.num_heads = num_heads
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.weights_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="weights_dropout"
        )

    def _dense(self, features: int, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            features,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _set_sizes(self, d_model: int) -> None:
        check_heads(d_model, self.num_heads)
        self.d_model = d_model
        self.head_dim = d_model // self.num_heads

    def _project(self, dense: keras.layers.Layer, inputs: Any, parts: int) -> tuple[Any, ...]:
        """Projects and cuts into `parts` tensors: `[B, T, D] -> [B, H, T, D/H]` each."""
        length = ops.shape(inputs)[1]
        # Rows, because a Dense on more axes adds operations that only compute shapes.
        projected = dense(ops.reshape(inputs, (-1, inputs.shape[-1])))  # [B*T, parts*D]
        heads = ops.reshape(projected, (-1, length, parts * self.num_heads, self.head_dim))
        heads = ops.transpose(heads, (0, 2, 1, 3))  # [B, parts*H, T, D/H]
        return tuple(ops.split(heads, parts, axis=1))

    def compute_scores(self, query: Any, key: Any, start_index: Any = 0) -> Any:
        """Says how much each query looks for each key, before the mask and the softmax.

        Args:
            query: Float tensor `[B, H, T, D/H]`.
            key: Float tensor `[B, H, S, D/H]`.
            start_index: Position of the first query (the keys start at 0): T is 1 and this is
                the step's index while decoding with a cache. Always 0 in cross-attention.

        Returns:
            Float tensor `[B, H, T, S]`: `q k^T / sqrt(d_k)`.

        Reference: Vaswani et al. 2017, section 3.2.1, equation 1.
        """
        scale = ops.cast(self.head_dim**-0.5, query.dtype)
        return ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))

    def compute_weights(self, query: Any, key: Any, mask: Any | None, start_index: Any = 0) -> Any:
        """Turns queries and keys into attention weights `[B, H, T, S]` under a wide mask."""
        return masked_softmax(self.compute_scores(query, key, start_index), mask)

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        mask: Any | None,
        start_index: Any = 0,
        training: bool | None = None,
    ) -> Any:
        """Sums the values by the attention weights.

        Args:
            query: Float tensor `[B, H, T, D/H]`.
            key: Float tensor `[B, H, S, D/H]`.
            value: Float tensor `[B, H, S, D/H]`.
            mask: Boolean tensor that broadcasts to `[B, H, T, S]`, or None.
            start_index: Position of the first query; see `compute_scores`.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, H, T, D/H]`.
        """
        weights = self.compute_weights(query, key, mask, start_index)
        return ops.matmul(self.weights_dropout(weights, training=training), value)

    def merge(self, attended: Any) -> Any:
        """Joins the heads and projects them: `[B, H, T, D/H] -> [B, T, D]`."""
        length = ops.shape(attended)[2]
        joined = ops.transpose(attended, (0, 2, 1, 3))  # [B, T, H, D/H]
        outputs = self.output_projection(ops.reshape(joined, (-1, self.d_model)))
        return ops.reshape(outputs, (-1, length, self.d_model))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="ktransformer")
class MultiHeadSelfAttention(_MultiHeadAttention):
    """Lets every position of a sequence look at the others.

    Query, key and value come out of one fused projection. Override `compute_scores` for another
    score (a relative bias, say) or `project` for other queries and keys (rotary positions): both
    are told the position, so that `call` and the cached `step` go on agreeing.

    Args:
        num_heads: H, the number of heads; divides the width of the input.
        causal: Whether a position sees only itself and what is before it.
        dropout: Probability of zeroing an attention weight, in [0, 1).
        use_bias: Whether the projections have a bias.
        kernel_initializer: Initializer of the projections. Glorot over the fused kernel draws
            from a range 1/sqrt(2) as wide as over three separate ones.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`.
        mask: Boolean tensor `[B, T]`, True at real positions; filled in by Keras.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: `num_heads` is below 1 or does not divide D, or `dropout` is not in [0, 1).

    Masking: padded positions are never attended to; the mask is passed on unchanged. A position
        that can see nothing gets a sum of 0, so its output is the output projection's bias.

    Example:
        ```python
        attention = MultiHeadSelfAttention(4, causal=True)
        outputs = attention(keras.random.normal((2, 7, 64)))  # (2, 7, 64)
        ```

    Reference: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, num_heads: int, *, causal: bool = False, **kwargs: Any) -> None:
        super().__init__(num_heads, **kwargs)
        self.causal = causal
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Creates the projections for inputs `[B, T, D]`."""
        self._set_sizes(input_shape[-1])
        self.input_projection = self._dense(3 * self.d_model, "input_projection")
        self.output_projection = self._dense(self.d_model, "output_projection")
        self.input_projection.build(input_shape)
        self.output_projection.build(input_shape)

    def project(self, inputs: Any, start_index: Any = 0) -> tuple[Any, Any, Any]:
        """Makes query, key and value, `[B, H, T, D/H]` each, from inputs `[B, T, D]`.

        `start_index` is the position of the first input; the projection itself ignores it.
        """
        query, key, value = self._project(self.input_projection, inputs, 3)
        return query, key, value

    def call(self, inputs: Any, mask: Any | None = None, training: bool | None = None) -> Any:
        query, key, value = self.project(inputs)
        attended = self.attend(query, key, value, self._wide_mask(inputs, mask), training=training)
        return self.merge(attended)

    def attention_weights(self, inputs: Any, mask: Any | None = None) -> Any:
        """Returns the weights `[B, H, T, T]` that `call` uses, without dropout."""
        query, key, _ = self.project(inputs)
        return self.compute_weights(query, key, self._wide_mask(inputs, mask))

    def _wide_mask(self, inputs: Any, mask: Any | None) -> Any | None:
        length = ops.shape(inputs)[1]
        return attention_mask(mask, query_length=length, key_length=length, causal=self.causal)

    def empty_cache(self, rows: Any, length: Any) -> tuple[Any, Any]:
        """Makes room for `length` positions: key and value, zeros `[rows, H, length, D/H]`."""
        shape = (rows, self.num_heads, length, self.head_dim)
        return ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype)

    def step(self, inputs: Any, cache: tuple[Any, Any], index: Any) -> tuple[Any, tuple[Any, Any]]:
        """Attends from new positions to themselves and to all that the cache already holds.

        Args:
            inputs: Float tensor `[N, T, D]`, the new positions; T is 1 in a decoding loop.
            cache: Key and value `[N, H, L, D/H]`, filled up to `index`.
            index: Position of the first new input, an int or a scalar int32 tensor.

        Returns:
            The outputs `[N, T, D]`, equal to what `call` gives at these positions, and the cache
            with the new positions written into it.

        Raises:
            ValueError: The layer is not causal: earlier outputs would depend on later inputs.
        """
        if not self.causal:
            raise ValueError("A cache needs causal attention; got causal=False.")
        query, key, value = self.project(inputs, start_index=index)
        zero = ops.zeros((), "int32")
        start = ops.stack([zero, zero, ops.cast(index, "int32"), zero])
        keys = ops.slice_update(cache[0], start, key)
        values = ops.slice_update(cache[1], start, value)
        mask = attention_mask(
            None,
            query_length=ops.shape(inputs)[1],
            key_length=ops.shape(keys)[2],
            causal=True,
            start_index=index,
        )
        return self.merge(self.attend(query, keys, values, mask, index)), (keys, values)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "causal": self.causal}


@keras.saving.register_keras_serializable(package="ktransformer")
class MultiHeadCrossAttention(_MultiHeadAttention):
    """Lets every position of a sequence look at an encoder's memory.

    Key and value come out of one fused projection of the memory, which decoding computes once.

    Args:
        num_heads: H, the number of heads; divides the width of the input.
        dropout: Probability of zeroing an attention weight, in [0, 1).
        use_bias: Whether the projections have a bias.
        kernel_initializer: Initializer of the projections.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`, where the queries come from.
        memory: Float tensor `[B, S, D]`, where keys and values come from.
        memory_mask: Boolean tensor `[B, S]`, True at real positions; filled in by Keras.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: `num_heads` is below 1 or does not divide D, or `dropout` is not in [0, 1).

    Masking: padded memory is never attended to; the mask of `inputs` is passed on unchanged.

    Example:
        ```python
        attention = MultiHeadCrossAttention(4)
        outputs = attention(keras.random.normal((2, 7, 64)), keras.random.normal((2, 9, 64)))
        ```

    Reference: Vaswani et al. 2017, section 3.2.3 ("encoder-decoder attention").
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(num_heads, **kwargs)
        self.supports_masking = True

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        """Creates the projections for inputs `[B, T, D]` and memory `[B, S, D]`."""
        self._set_sizes(inputs_shape[-1])
        self.query_projection = self._dense(self.d_model, "query_projection")
        self.memory_projection = self._dense(2 * self.d_model, "memory_projection")
        self.output_projection = self._dense(self.d_model, "output_projection")
        self.query_projection.build(inputs_shape)
        self.memory_projection.build(memory_shape)
        self.output_projection.build(inputs_shape)

    def project_query(self, inputs: Any) -> Any:
        """Makes the queries: `[B, T, D] -> [B, H, T, D/H]`."""
        return self._project(self.query_projection, inputs, 1)[0]

    def project_memory(self, memory: Any) -> tuple[Any, Any]:
        """Makes key and value, `[B, H, S, D/H]` each, from memory `[B, S, D]`."""
        key, value = self._project(self.memory_projection, memory, 2)
        return key, value

    def call(
        self,
        inputs: Any,
        memory: Any,
        memory_mask: Any | None = None,
        training: bool | None = None,
    ) -> Any:
        return self._attend_memory(inputs, self.project_memory(memory), memory_mask, training)

    def attention_weights(self, inputs: Any, memory: Any, memory_mask: Any | None = None) -> Any:
        """Returns the weights `[B, H, T, S]` that `call` uses, without dropout."""
        key, _ = self.project_memory(memory)
        mask = self._wide_mask(inputs, key, memory_mask)
        return self.compute_weights(self.project_query(inputs), key, mask)

    def step(self, inputs: Any, key_value: tuple[Any, Any], memory_mask: Any | None = None) -> Any:
        """Attends from one new position of every hypothesis to its sentence's memory.

        The K hypotheses of a sentence share one memory: they are its K queries, so that nothing
        is copied K times.

        Args:
            inputs: Float tensor `[B*K, 1, D]`, a sentence's hypotheses next to each other.
            key_value: What `project_memory` returned, `[B, H, S, D/H]` each.
            memory_mask: Boolean tensor `[B, S]`.

        Returns:
            Float tensor `[B*K, 1, D]`.
        """
        rows = ops.shape(key_value[0])[0]
        queries = ops.reshape(inputs, (rows, -1, self.d_model))  # [B, K, D]
        outputs = self._attend_memory(queries, key_value, memory_mask)
        return ops.reshape(outputs, (-1, 1, self.d_model))

    def _attend_memory(
        self,
        inputs: Any,
        key_value: tuple[Any, Any],
        memory_mask: Any | None,
        training: bool | None = None,
    ) -> Any:
        key, value = key_value
        mask = self._wide_mask(inputs, key, memory_mask)
        query = self.project_query(inputs)
        return self.merge(self.attend(query, key, value, mask, training=training))

    def _wide_mask(self, inputs: Any, key: Any, memory_mask: Any | None) -> Any | None:
        return attention_mask(
            memory_mask, query_length=ops.shape(inputs)[1], key_length=ops.shape(key)[2]
        )
