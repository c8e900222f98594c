"""Multi-head attention over the sequence itself."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.attention import MultiHeadAttention
from ktransformer.layers.cache import Cache, KeyValues, StepContext
from ktransformer.layers.checks import check_mask
from ktransformer.layers.masks import attention_mask
from ktransformer.layers.overrides import check_overrides


@keras.saving.register_keras_serializable(package="ktransformer")
class MultiHeadSelfAttention(MultiHeadAttention):
    """Lets every position of a sequence look at the others.

    Query, key and value come out of one fused projection. Override `compute_scores` for another
    score (a relative bias, say) or `project` for other queries and keys (rotary positions): both
    are told the positions, so that `call` and the cached `step` go on agreeing. For projections of
    its own a subclass overrides `make_projections` together with `project`.

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
        mask: Boolean tensor `[B, T]`, True at real positions; filled in by Keras. Or `[B, T, T]`,
            True where a position sees another.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: `num_heads` is below 1 or does not divide D, `dropout` is not in [0, 1), or
            an input or a mask has another shape.

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
        self.make_projections(input_shape[-1])

    def make_projections(self, input_dim: int) -> None:
        """Creates and builds the layers that `project` and `merge` use.

        Override it together with `project` for other projections; `merge` uses
        `output_projection`. `d_model` and `head_dim` are known when it is called.

        Args:
            input_dim: D, the width of the inputs.
        """
        self.input_projection = self.make_dense(3 * self.d_model, input_dim, "input_projection")
        self.output_projection = self.make_dense(self.d_model, self.d_model, "output_projection")

    def project(self, inputs: Any, positions: Any) -> tuple[Any, Any, Any]:
        """Makes query, key and value, `[B, H, T, D/H]` each, from inputs `[B, T, D]`.

        `positions`, ints `[T]`, say where the inputs stand; the projection itself ignores them.
        """
        del positions
        query, key, value = self.project_heads(self.input_projection, inputs, 3)
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
        check_mask("mask", mask, "inputs", inputs, pairs=True)
        length = ops.shape(inputs)[1]
        return attention_mask(mask, query_length=length, key_length=length, causal=self.causal)

    def empty_cache(
        self, rows: Any, length: Any, *, beam_size: int = 1, chunked: bool = False
    ) -> Cache:
        """Makes room for `length` positions of `beam_size` hypotheses each; see `Cache`."""
        shape = (rows, self.num_heads, length * beam_size, self.head_dim)
        recent = KeyValues(
            ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype)
        )
        if not chunked:
            return Cache((), recent)
        # LiteRT has no attention over nothing: the past begins with a position nobody sees.
        shape = (rows, self.num_heads, beam_size, self.head_dim)
        value = ops.zeros(shape, self.compute_dtype)
        return Cache(KeyValues(ops.transpose(value, (0, 1, 3, 2)), value), recent)

    def step(self, inputs: Any, cache: Cache, at: StepContext) -> tuple[Any, Cache]:
        """Attends from the newest position of every hypothesis to what it comes from.

        The K hypotheses of a sentence share one cache, in which nothing moves: `at` says which
        of its entries each of them may see.

        Args:
            inputs: Float tensor `[B, K, D]`.
            cache: Filled up to the newest position.
            at: Where the inputs stand; see `StepContext`.

        Returns:
            The outputs `[B, K, D]`, equal to what `call` gives at this position, and the cache
            with it written in.

        Raises:
            ValueError: The layer is not causal: earlier outputs would depend on later inputs.
            NotImplementedError: A subclass overrides `call` or `attend` and not this.
        """
        check_overrides(self)
        if not self.causal:
            raise ValueError("A cache needs causal attention; got causal=False.")
        query, key, value = self.project(inputs, at.positions)
        recent = cache.write(key, value, at.writer)
        keys = ops.transpose(recent.key, (0, 1, 3, 2))
        penalty = ops.expand_dims(at.penalty.recent, 1)  # [B, 1, K, slots]
        scores = self._step_scores(query, keys, penalty, at.recent_positions)
        if not cache.past:
            weights = ops.cast(self.compute_weights(scores, None), value.dtype)
            return self.merge(ops.matmul(weights, recent.value)), Cache((), recent)
        penalty = ops.expand_dims(at.penalty.past, 1)
        past = self._step_scores(query, cache.past.key, penalty, at.past_positions)
        weights = self.compute_weights(ops.concatenate([scores, past], axis=-1), None)
        weights = ops.cast(weights, value.dtype)
        slots = recent.key.shape[2]
        attended = ops.matmul(weights[..., :slots], recent.value)
        # Not `+`: LiteRT's converter (2.21) breaks on a sum of two products of slices.
        attended = attended - ops.matmul(-weights[..., slots:], cache.past.value)
        return self.merge(attended), Cache(cache.past, recent)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "causal": self.causal}
