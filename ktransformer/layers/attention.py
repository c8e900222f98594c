"""The attention kernel that self- and cross-attention share, in calls and in cached steps."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers.cache import Positions
from ktransformer.layers.checks import check_multiple, check_sizes
from ktransformer.layers.key_span import KeySpan
from ktransformer.layers.masks import hide_scores, sees_anything
from ktransformer.layers.projection import ProjectingLayer
from ktransformer.layers.tensors import Heads, Scores, Vectors


class MultiHeadAttention(ProjectingLayer):
    """The steps of attention: project (in the subclasses), `attend`, `merge`.

    `attend` is `compute_scores`, `compute_weights`, dropout and a sum of values. `call` and the
    cached `step` run the same steps, on one `KeySpan` or on several: a subclass overrides any of
    them once, and trains and decodes the same model. One that overrides `call` overrides `step`
    as well, or cannot decode.

    With `num_kv_heads` (KV) below `num_heads` (H), each head of keys and values serves the H/KV
    heads of queries that follow each other: grouped-query attention, and with KV = 1 multi-query
    attention. Keys and values are never repeated in memory.

    With the class attribute `fused_attention` set to True, on JAX, `call` uses the backend's fused
    attention (flash attention on a GPU, in half precision) where it computes the same: none of
    `compute_scores`, `compute_weights` and `span_weights` is overridden, no dropout of weights is
    on, the positions add no bias to the scores, and under a mask T and S are even (cuDNN trains no
    others). It is off by default because it has not been measured on a GPU yet.

    Reference: Vaswani et al. 2017, section 3.2; Shazeer 2019 (multi-query); Ainslie et al. 2023
        (grouped-query).
    """

    fused_attention: ClassVar[bool] = False
    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {"call": ("step",)}

    def __init__(self, num_heads: int, *, num_kv_heads: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_sizes(num_heads=num_heads, num_kv_heads=num_kv_heads)
        check_multiple(num_heads=num_heads, num_kv_heads=num_kv_heads)
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.input_spec = keras.InputSpec(ndim=3)
        self.weights_dropout = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="weights_dropout"
        )

    def _set_sizes(self, d_model: int) -> None:
        check_multiple(d_model=d_model, num_heads=self.num_heads)
        self.d_model = d_model
        self.head_dim = d_model // self.num_heads
        self.input_spec = keras.InputSpec(ndim=3, axes={-1: d_model})

    def project_heads(
        self, dense: keras.layers.Layer, inputs: Vectors, *num_heads: int
    ) -> tuple[Any, ...]:
        """Projects inputs and splits the result into heads.

        Args:
            dense: A layer from rows `[N, width]` to rows `[N, D/H * the sum of num_heads]`.
            inputs: Float tensor `[B, T, width]`.
            *num_heads: The heads of each tensor that is returned; by default one tensor of all
                H heads.

        Returns:
            A tuple of tensors `[B, heads, T, D/H]`, one for each of `num_heads`.
        """
        num_heads = num_heads or (self.num_heads,)
        length, total = ops.shape(inputs)[1], sum(num_heads)
        # Rows, because a Dense on more axes adds operations that only compute shapes.
        heads = dense(ops.reshape(inputs, (-1, inputs.shape[-1])))  # [B*T, total * D/H]
        if isinstance(length, int) and length == 1:  # Then there is nothing to transpose.
            heads = ops.reshape(heads, (-1, total, 1, self.head_dim))
        else:
            heads = ops.reshape(heads, (-1, length, total, self.head_dim))
            heads = ops.transpose(heads, (0, 2, 1, 3))  # [B, total, T, D/H]
        if len(num_heads) == 1:
            return (heads,)
        if len(set(num_heads)) == 1:
            return tuple(ops.split(heads, len(num_heads), axis=1))
        # Not `split`, which makes the number of heads unknown where they differ.
        stops = [sum(num_heads[: index + 1]) for index in range(len(num_heads))]
        return tuple(
            heads[:, stop - count : stop] for count, stop in zip(num_heads, stops, strict=True)
        )

    def attend(self, query: Heads, spans: Sequence[KeySpan], training: bool | None = None) -> Heads:
        """Sums the values of all spans by their attention weights.

        Args:
            query: Float tensor `[B, H, T, D/H]`.
            spans: What to attend to: one span in a call, one or two in a cached step.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, H, T, D/H]`.
        """
        if self._can_fuse(query, spans, training):
            return self._attend_fused(query, spans[0])
        weights = self.weights_dropout(self.span_weights(query, spans), training=training)
        if len(spans) == 1:
            return self._sum_values(weights, spans[0])
        attended: Heads = None
        start: Any = 0
        for span in spans:
            stop = None if span is spans[-1] else start + ops.shape(span.value)[2]
            part = weights[..., start:stop]
            if attended is None:
                attended = self._sum_values(part, span)
            else:  # Not `+`: LiteRT's converter (2.21) breaks on a sum of products of slices.
                attended = attended - self._sum_values(-part, span)
            start = stop
        return attended

    def span_weights(self, query: Heads, spans: Sequence[KeySpan]) -> Scores:
        """Returns the attention weights without dropout, `[B, H, T, S]` over all spans' keys.

        A query that every key is hidden from by a mask has weights of 0.
        """
        scores = [self._hidden_scores(query, span) for span in spans]
        joined = scores[0] if len(scores) == 1 else ops.concatenate(scores, axis=-1)
        in_step = spans[0].penalty is not None
        weights = self._step_weights(joined) if in_step else self.compute_weights(joined)
        seen = sees_anything([span.mask for span in spans])
        if seen is not None:
            weights = weights * ops.cast(seen, weights.dtype)
        return ops.cast(weights, query.dtype)

    def compute_scores(self, query: Heads, key: Heads, positions: Positions) -> Scores:
        """Computes how well each key matches each query, before masks, biases and the softmax.

        Args:
            query: Float tensor `[B, H, T, D/H]`.
            key: Float tensor `[B, KV, S, D/H]`.
            positions: Where the queries `[T]` and the keys `[S]` stand, each in its own sequence.
                While decoding, T is the number of hypotheses, all at one position, several keys
                may stand at one, and none stands after it.

        Returns:
            Float tensor `[B, H, T, S]`: `q k^T / sqrt(d_k)`.

        Reference: Vaswani et al. 2017, section 3.2.1, equation 1.
        """
        del positions
        return self._product(self._scale(query), ops.transpose(key, (0, 1, 3, 2)))

    def compute_weights(self, scores: Scores) -> Scores:
        """Turns scores into attention weights.

        Args:
            scores: Float32 tensor `[B, H, T, S]`, near -1e9 at hidden keys, which must get a
                weight of 0. (Where a mask hides all keys of a query, its weights are zeroed
                after this.)

        Returns:
            Float32 tensor `[B, H, T, S]`: here their softmax.
        """
        return ops.softmax(scores, axis=-1)

    def position_bias(self, positions: Positions) -> Any | None:
        """Returns what is added to the scores, float32 `[H, T, S]`, or None; here None."""
        return None

    def merge(self, attended: Heads) -> Vectors:
        """Joins the heads and projects them: `[B, H, T, D/H] -> [B, T, D]`."""
        length = ops.shape(attended)[2]
        joined = attended
        if not isinstance(length, int) or length > 1:
            joined = ops.transpose(attended, (0, 2, 1, 3))  # [B, T, H, D/H]
        outputs = self.output_projection(ops.reshape(joined, (-1, self.d_model)))
        return ops.reshape(outputs, (-1, length, self.d_model))

    def _hidden_scores(self, query: Heads, span: KeySpan) -> Scores:
        """Computes a span's scores in float32, with bias, far below all others at hidden keys."""
        scores = self._span_scores(query, span)
        scores = ops.cast(scores, "float32")  # Neither -1e9 nor a long sum fits into float16.
        bias = self.position_bias(span.positions)
        if span.penalty is not None:  # One subtraction, and no sum: see `PENALTY`.
            return scores - (span.penalty if bias is None else span.penalty - bias)
        return hide_scores(scores if bias is None else scores + bias, span.mask)

    @property
    def _sums_products(self) -> bool:
        """Whether a step's products can be sums, as `StepContext.by_sums` says.

        In float32 alone: half precision would round each of the summands.
        """
        return (
            self.num_kv_heads == self.num_heads
            and self.compute_dtype == "float32"
            and self._inherits("compute_scores")
        )

    def _span_scores(self, query: Heads, span: KeySpan) -> Scores:
        """Computes the scores of a span's keys: `compute_scores`, or the same by sums."""
        if span.by_sums and self._sums_products:
            scores = ops.sum(self._scale(query) * span.key, axis=3, keepdims=True)
            # [B, H, 1, S]. Not `expand_dims`, which XNNPACK has not: it would end its program.
            return ops.transpose(scores, (0, 1, 3, 2))
        return self.compute_scores(query, span.key, span.positions)

    def _step_weights(self, scores: Scores) -> Scores:
        """Computes the weights in a step: `compute_weights`, or the same in simpler operations.

        TensorFlow hands a softmax to oneDNN, which takes longer for the few scores of a step.
        LiteRT's converter makes one operation of these again.
        """
        if 0 in scores.shape or not self._inherits("compute_weights"):
            return self.compute_weights(scores)  # Keras raises for the maximum of no numbers.
        powers = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        return powers / ops.sum(powers, axis=-1, keepdims=True)

    def _sum_values(self, weights: Scores, span: KeySpan) -> Heads:
        """Sums a span's values by their weights `[B, H, T, S]`."""
        if span.by_sums and self._sums_products:
            weights = ops.transpose(weights, (0, 1, 3, 2))  # [B, H, S, 1]
            return ops.sum(weights * span.value, axis=2, keepdims=True)
        return self._product(weights, span.value)

    def _inherits(self, *methods: str) -> bool:
        """Tells whether a subclass overrides none of some methods of `MultiHeadAttention`."""
        return all(getattr(type(self), m) is getattr(MultiHeadAttention, m) for m in methods)

    def _scale(self, query: Heads) -> Heads:
        return query * ops.cast(self.head_dim**-0.5, query.dtype)

    def _product(self, left: Heads, right: Heads) -> Heads:
        """Multiplies `[B, H, T, X]` by `[B, KV, X, Y]` to `[B, H, T, Y]`.

        The heads of a group become more rows of one product, so that nothing is repeated.
        """
        if self.num_kv_heads == self.num_heads:
            return ops.matmul(left, right)
        length, inner = ops.shape(left)[2], ops.shape(left)[3]
        group = self.num_heads // self.num_kv_heads
        rows = ops.reshape(left, (-1, self.num_kv_heads, group * length, inner))
        product = ops.matmul(rows, right)  # [B, KV, H/KV * T, Y]
        return ops.reshape(product, (-1, self.num_heads, length, ops.shape(product)[3]))

    def _can_fuse(self, query: Heads, spans: Sequence[KeySpan], training: bool | None) -> bool:
        """Tells whether the backend's fused attention computes what the steps here do.

        TensorFlow has none: Keras would compute the same steps, in another layout.
        """
        if not self.fused_attention or keras.config.backend() != "jax" or len(spans) > 1:
            return False
        span = spans[0]
        return (
            self._inherits("compute_scores", "compute_weights", "span_weights")
            and (not self.dropout or training is False)
            and span.penalty is None
            and (span.mask is None or not (query.shape[2] % 2 or span.key.shape[2] % 2))
            and self.position_bias(span.positions) is None
        )

    def _attend_fused(self, query: Heads, span: KeySpan) -> Heads:
        query, key, value = (
            ops.transpose(heads, (0, 2, 1, 3)) for heads in (query, span.key, span.value)
        )
        mask = span.mask
        if mask is not None:  # cuDNN wants the axis of the queries whole.
            mask = ops.broadcast_to(mask, (mask.shape[0], 1, query.shape[1], key.shape[1]))
        attended = ops.dot_product_attention(
            query, key, value, mask=mask, scale=self.head_dim**-0.5
        )
        attended = ops.transpose(attended, (0, 2, 1, 3))  # [B, H, T, D/H]
        seen = sees_anything([span.mask])
        return attended if seen is None else ops.where(seen, attended, 0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_kv_heads": self.num_kv_heads,
        }
