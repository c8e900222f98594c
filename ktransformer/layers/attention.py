"""Multi-head attention: over the sequence itself, and over an encoder's memory."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.cache import Cache, KeyValues, Positions, StepPlace
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
        heads = dense(ops.reshape(inputs, (-1, inputs.shape[-1])))  # [B*T, parts*D]
        if isinstance(length, int) and length == 1:  # Then there is nothing to transpose.
            heads = ops.reshape(heads, (-1, parts * self.num_heads, 1, self.head_dim))
        else:
            heads = ops.reshape(heads, (-1, length, parts * self.num_heads, self.head_dim))
            heads = ops.transpose(heads, (0, 2, 1, 3))  # [B, parts*H, T, D/H]
        return (heads,) if parts == 1 else tuple(ops.split(heads, parts, axis=1))

    def compute_scores(self, query: Any, key: Any, positions: Positions) -> Any:
        """Says how much each query looks for each key, before the mask and the softmax.

        Args:
            query: Float tensor `[B, H, T, D/H]`.
            key: Float tensor `[B, H, S, D/H]`.
            positions: Where the queries `[T]` and the keys `[S]` stand, each in its own sequence.
                While decoding, T is the number of hypotheses, all at one position, and several
                keys may stand at one.

        Returns:
            Float tensor `[B, H, T, S]`: `q k^T / sqrt(d_k)`.

        Reference: Vaswani et al. 2017, section 3.2.1, equation 1.
        """
        del positions
        scale = ops.cast(self.head_dim**-0.5, query.dtype)
        return ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))

    def compute_weights(self, scores: Any, mask: Any | None) -> Any:
        """Turns scores `[B, H, T, S]` into attention weights, under a wide mask or none."""
        return masked_softmax(scores, mask)

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        mask: Any | None,
        training: bool | None = None,
    ) -> Any:
        """Sums the values by the attention weights.

        Args:
            query: Float tensor `[B, H, T, D/H]`.
            key: Float tensor `[B, H, S, D/H]`.
            value: Float tensor `[B, H, S, D/H]`.
            mask: Boolean tensor that broadcasts to `[B, H, T, S]`, or None.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, H, T, D/H]`.
        """
        weights = self._weights(query, key, mask)
        return ops.matmul(self.weights_dropout(weights, training=training), value)

    def _weights(self, query: Any, key: Any, mask: Any | None) -> Any:
        """Returns the weights `[B, H, T, S]` of whole sequences, without dropout."""
        positions = Positions.from_start(ops.shape(query)[2], ops.shape(key)[2])
        return self.compute_weights(self.compute_scores(query, key, positions), mask)

    def _unseen_scores(
        self, query: Any, transposed_key: Any, unseen: Any, positions: Positions
    ) -> Any:
        """Computes scores in float32, far below all others at what is unseen."""
        key = ops.transpose(transposed_key, (0, 1, 3, 2))
        return ops.cast(self.compute_scores(query, key, positions), "float32") - unseen

    def merge(self, attended: Any) -> Any:
        """Joins the heads and projects them: `[B, H, T, D/H] -> [B, T, D]`."""
        length = ops.shape(attended)[2]
        joined = attended
        if not isinstance(length, int) or length > 1:
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
    are told the positions, so that `call` and the cached `step` go on agreeing.

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

    def project(self, inputs: Any, positions: Any) -> tuple[Any, Any, Any]:
        """Makes query, key and value, `[B, H, T, D/H]` each, from inputs `[B, T, D]`.

        `positions`, ints `[T]`, say where the inputs stand; the projection itself ignores them.
        """
        del positions
        query, key, value = self._project(self.input_projection, inputs, 3)
        return query, key, value

    def call(self, inputs: Any, mask: Any | None = None, training: bool | None = None) -> Any:
        query, key, value = self.project(inputs, ops.arange(ops.shape(inputs)[1]))
        attended = self.attend(query, key, value, self._wide_mask(inputs, mask), training)
        return self.merge(attended)

    def attention_weights(self, inputs: Any, mask: Any | None = None) -> Any:
        """Returns the weights `[B, H, T, T]` that `call` uses, without dropout."""
        query, key, _ = self.project(inputs, ops.arange(ops.shape(inputs)[1]))
        return self._weights(query, key, self._wide_mask(inputs, mask))

    def _wide_mask(self, inputs: Any, mask: Any | None) -> Any | None:
        length = ops.shape(inputs)[1]
        return attention_mask(mask, query_length=length, key_length=length, causal=self.causal)

    def empty_cache(
        self, rows: Any, length: Any, *, beam_size: int = 1, growing: bool = False
    ) -> Cache:
        """Makes room for `length` positions of `beam_size` hypotheses each; see `Cache`."""
        shape = (rows, self.num_heads, length * beam_size, self.head_dim)
        recent = KeyValues(
            ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype)
        )
        if not growing:
            return Cache((), recent)
        # LiteRT has no attention over nothing: the past begins with a position nobody sees.
        shape = (rows, self.num_heads, beam_size, self.head_dim)
        value = ops.zeros(shape, self.compute_dtype)
        return Cache(KeyValues(ops.transpose(value, (0, 1, 3, 2)), value), recent)

    def step(self, inputs: Any, cache: Cache, at: StepPlace) -> tuple[Any, Cache]:
        """Attends from the newest position of every hypothesis to what it comes from.

        The K hypotheses of a sentence share one cache, in which nothing moves: `at` says which
        of its entries each of them may see.

        Args:
            inputs: Float tensor `[B, K, D]`.
            cache: Filled up to the newest position.
            at: Where the inputs stand; see `StepPlace`.

        Returns:
            The outputs `[B, K, D]`, equal to what `call` gives at this position, and the cache
            with it written in.

        Raises:
            ValueError: The layer is not causal: earlier outputs would depend on later inputs.
        """
        if not self.causal:
            raise ValueError("A cache needs causal attention; got causal=False.")
        query, key, value = self.project(inputs, at.positions)
        recent = cache.write(key, value, at.writer)
        keys = ops.transpose(recent.key, (0, 1, 3, 2))
        scores = self._unseen_scores(query, keys, at.recent_unseen, at.recent_positions)
        if not cache.past:
            weights = ops.cast(self.compute_weights(scores, None), value.dtype)
            return self.merge(ops.matmul(weights, recent.value)), Cache((), recent)
        past = self._unseen_scores(query, cache.past.key, at.past_unseen, at.past_positions)
        weights = self.compute_weights(ops.concatenate([scores, past], axis=-1), None)
        weights = ops.cast(weights, value.dtype)
        slots = recent.key.shape[2]
        attended = ops.matmul(weights[..., :slots], recent.value)
        # Not `+`: LiteRT's converter (2.21) breaks on a sum of two products of slices.
        attended = attended - ops.matmul(-weights[..., slots:], cache.past.value)
        return self.merge(attended), Cache(cache.past, recent)

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
        key, value = self.project_memory(memory)
        mask = self._wide_mask(inputs, key, memory_mask)
        return self.merge(self.attend(self.project_query(inputs), key, value, mask, training))

    def attention_weights(self, inputs: Any, memory: Any, memory_mask: Any | None = None) -> Any:
        """Returns the weights `[B, H, T, S]` that `call` uses, without dropout."""
        key, _ = self.project_memory(memory)
        mask = self._wide_mask(inputs, key, memory_mask)
        return self._weights(self.project_query(inputs), key, mask)

    def remember(self, memory: Any, memory_mask: Any) -> KeyValues:
        """Computes what all steps of decoding need of the memory `[B, S, D]`, once.

        `memory_mask` is boolean, `[B, S]`. Where it hides everything, the values are 0, so that
        nothing is attended to, as in `call`.
        """
        key, value = self.project_memory(memory)
        anything = ops.cast(ops.any(memory_mask, axis=1), value.dtype)  # [B]
        anything = ops.reshape(anything, (-1, 1, 1, 1))
        return KeyValues(ops.transpose(key, (0, 1, 3, 2)), value * anything)

    def step(self, inputs: Any, memory: KeyValues, at: StepPlace) -> Any:
        """Attends from the newest position of every hypothesis to its sentence's memory.

        The K hypotheses of a sentence share one memory: they are its K queries, so that nothing
        is copied K times.

        Args:
            inputs: Float tensor `[B, K, D]`.
            memory: What `remember` returned.
            at: Where the inputs stand; its `memory_unseen` hides padding.

        Returns:
            Float tensor `[B, K, D]`.
        """
        query = self.project_query(inputs)
        keys = ops.arange(ops.shape(memory.key)[3], dtype="int32")
        positions = Positions(at.positions, keys)
        scores = self._unseen_scores(query, memory.key, at.memory_unseen, positions)
        weights = ops.cast(self.compute_weights(scores, None), query.dtype)
        return self.merge(ops.matmul(weights, memory.value))

    def _wide_mask(self, inputs: Any, key: Any, memory_mask: Any | None) -> Any | None:
        return attention_mask(
            memory_mask, query_length=ops.shape(inputs)[1], key_length=ops.shape(key)[2]
        )
