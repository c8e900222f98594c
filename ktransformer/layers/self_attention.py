"""Multi-head attention over the sequence itself."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.attention import MultiHeadAttention
from ktransformer.layers.cache import Cache, KeyValues, Positions, StepContext
from ktransformer.layers.checks import check_mask
from ktransformer.layers.key_span import KeySpan
from ktransformer.layers.masks import attention_mask
from ktransformer.layers.overrides import check_attention_weights, check_overrides
from ktransformer.layers.positions import get as get_positions
from ktransformer.layers.positions import serialize as serialize_positions
from ktransformer.layers.tensors import Heads, Mask, Scores, Shape, Size, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class MultiHeadSelfAttention(MultiHeadAttention):
    """Lets every position of a sequence look at the others.

    Query, key and value come out of one fused projection. A subclass overrides one step, such as
    `compute_scores`, `compute_weights`, `attend` or `merge`, and both `call` and the cached `step`
    follow. For projections of its own it overrides `make_projections` together with `project`; for
    positions of its own see `PositionEncoding`.

    Args:
        num_heads: H, the number of heads; divides the width of the input.
        num_kv_heads: KV, the heads of keys and values, a divisor of H; None for H. A cache is
            smaller by the factor KV/H. See `MultiHeadAttention`.
        positions: How the attention itself knows the positions: `"rotary"`, `"alibi"` or
            `"relative"`, or a `PositionEncoding`; the other names add nothing here.
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

    def __init__(
        self, num_heads: int, *, positions: Any = "none", causal: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(num_heads, **kwargs)
        self.positions = get_positions(positions)
        self.causal = causal
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Creates the projections for inputs `[B, T, D]`."""
        self._set_sizes(input_shape[-1])
        self.make_projections(input_shape[-1])
        self.positions.build_attention(self)

    def make_projections(self, input_dim: int) -> None:
        """Creates and builds the layers that `project` and `merge` use.

        Override it together with `project` for other projections; `merge` uses
        `output_projection`. `d_model` and `head_dim` are known when it is called.

        Query, key and value follow each other in the kernel, head by head: kernels of a checkpoint
        that keeps them apart are concatenated along their outputs.

        Args:
            input_dim: D, the width of the inputs.
        """
        features = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        self.input_projection = self.make_dense(features, input_dim, "input_projection")
        self.output_projection = self.make_dense(self.d_model, self.d_model, "output_projection")

    def project(self, inputs: Vectors, positions: Any) -> tuple[Heads, Heads, Heads]:
        """Makes query, key and value of inputs.

        Args:
            inputs: Float tensor `[B, T, D]`.
            positions: Int32 tensor `[T]`, where the inputs stand.

        Returns:
            Query `[B, H, T, D/H]`, key and value `[B, KV, T, D/H]`; query and key as `positions`
            transforms them. A cache holds this key.
        """
        query, key, value = self.project_heads(
            self.input_projection, inputs, self.num_heads, self.num_kv_heads, self.num_kv_heads
        )
        query = self.positions.transform(self, query, positions)
        return query, self.positions.transform(self, key, positions), value

    def position_bias(self, positions: Positions) -> Any | None:
        """Returns the bias of `positions`, float32 `[H, T, S]`, or None."""
        return self.positions.bias(self, positions)

    def call(
        self, inputs: Vectors, mask: Mask | None = None, training: bool | None = None
    ) -> Vectors:
        query, span = self._project_whole(inputs, mask)
        return self.merge(self.attend(query, [span], training))

    def attention_weights(self, inputs: Vectors, mask: Mask | None = None) -> Scores:
        """Returns the weights `[B, H, T, T]` that `call` uses, without dropout.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_attention_weights(self, "attention_weights")
        query, span = self._project_whole(inputs, mask)
        return self.span_weights(query, [span])

    def _project_whole(self, inputs: Vectors, mask: Mask | None) -> tuple[Heads, KeySpan]:
        """Returns the queries of a whole sequence, and the span of its keys and values."""
        check_mask("mask", mask, "inputs", inputs, pairs=True)
        length = ops.shape(inputs)[1]
        positions = Positions.from_start(length, length)
        query, key, value = self.project(inputs, positions.queries)
        mask = attention_mask(mask, query_length=length, key_length=length, causal=self.causal)
        return query, KeySpan(key, value, positions, mask=mask)

    def empty_cache(
        self, rows: Size, length: Size, *, beam_size: int = 1, chunked: bool = False
    ) -> Cache:
        """Makes room for `length` positions of `beam_size` hypotheses each; see `Cache`."""
        shape = (rows, self.num_kv_heads, length * beam_size, self.head_dim)
        recent = KeyValues(
            ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype)
        )
        if not chunked:
            return Cache((), recent)
        # LiteRT has no attention over nothing: the past begins with a position nobody sees.
        shape = (*shape[:2], beam_size, self.head_dim)
        past = KeyValues(ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))
        return Cache(past if beam_size == 1 and self._sums_products else past.transposed(), recent)

    def step(self, inputs: Vectors, cache: Cache, at: StepContext) -> tuple[Vectors, Cache]:
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
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_overrides(self)
        if not self.causal:
            raise ValueError("A cache needs causal attention; got causal=False.")
        query, key, value = self.project(inputs, at.positions)
        cache = cache.write(key, value, at)
        parts = [(cache.recent, at.recent_positions, at.penalty.recent)]
        if cache.past:
            parts.append((cache.past, at.past_positions, at.penalty.past))
        spans = [
            KeySpan(
                part.plain_key,
                part.value,
                positions,
                penalty=ops.expand_dims(penalty, 1),  # [B, 1, K, slots]
                by_sums=at.by_sums,
            )
            for part, positions, penalty in parts
        ]
        return self.merge(self.attend(query, spans, training=False)), cache

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "positions": serialize_positions(self.positions),
            "causal": self.causal,
        }
