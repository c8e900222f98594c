"""Multi-head attention over an encoder's memory."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers.attention import MultiHeadAttention
from ktransformer.layers.cache import KeyValues, Positions, StepContext
from ktransformer.layers.checks import check_axes, check_mask
from ktransformer.layers.key_span import KeySpan
from ktransformer.layers.masks import attention_mask
from ktransformer.layers.overrides import check_attention_weights, check_overrides
from ktransformer.layers.tensors import Heads, Mask, Scores, Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class MultiHeadCrossAttention(MultiHeadAttention):
    """Lets every position of a sequence look at an encoder's memory.

    Key and value come out of one fused projection of the memory, which decoding computes once. For
    projections of its own a subclass overrides `make_projections` together with `project_query` and
    `project_key_value`.

    Args:
        num_heads: H, the number of heads; divides the width of the input.
        num_kv_heads: KV, the heads of keys and values, a divisor of H; None for H. What decoding
            keeps of the memory is smaller by the factor KV/H. See `MultiHeadAttention`.
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
        ValueError: `num_heads` is below 1 or does not divide D, `dropout` is not in [0, 1), or
            an input or a mask has another shape.

    Masking: padded memory is never attended to; the mask of `inputs` is passed on unchanged.

    Example:
        ```python
        attention = MultiHeadCrossAttention(4)
        outputs = attention(keras.random.normal((2, 7, 64)), keras.random.normal((2, 9, 64)))
        ```

    Reference: Vaswani et al. 2017, section 3.2.3 ("encoder-decoder attention").
    """

    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {"call": ("step", "project_memory")}

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(num_heads, **kwargs)
        self.supports_masking = True

    def build(self, inputs_shape: Shape, memory_shape: Shape) -> None:
        """Creates the projections for inputs `[B, T, D]` and memory `[B, S, D]`."""
        self._set_sizes(inputs_shape[-1])
        self.make_projections(inputs_shape[-1], memory_shape[-1])

    def make_projections(self, input_dim: int, memory_dim: int) -> None:
        """Creates and builds the layers that `project_query`, `project_key_value` and `merge` use.

        Override it together with the first two for other projections; `merge` uses
        `output_projection`. `d_model` and `head_dim` are known when it is called.

        Args:
            input_dim: D, the width of the inputs.
            memory_dim: The width of the memory.
        """
        self.query_projection = self.make_dense(self.d_model, input_dim, "query_projection")
        features = 2 * self.num_kv_heads * self.head_dim  # The keys' before the values'.
        self.memory_projection = self.make_dense(features, memory_dim, "memory_projection")
        self.output_projection = self.make_dense(self.d_model, self.d_model, "output_projection")

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Shape = None) -> Shape:
        """Returns the shape of the inputs."""
        return inputs_shape

    def project_query(self, inputs: Vectors) -> Heads:
        """Makes the queries: `[B, T, D] -> [B, H, T, D/H]`."""
        return self.project_heads(self.query_projection, inputs)[0]

    def project_key_value(self, memory: Vectors) -> tuple[Heads, Heads]:
        """Makes key and value, `[B, KV, S, D/H]` each, from memory `[B, S, D]`."""
        key, value = self.project_heads(
            self.memory_projection, memory, self.num_kv_heads, self.num_kv_heads
        )
        return key, value

    def call(
        self,
        inputs: Vectors,
        memory: Vectors,
        memory_mask: Mask | None = None,
        training: bool | None = None,
    ) -> Vectors:
        span = self._project_span(inputs, memory, memory_mask)
        return self.merge(self.attend(self.project_query(inputs), [span], training))

    def attention_weights(
        self, inputs: Vectors, memory: Vectors, memory_mask: Mask | None = None
    ) -> Scores:
        """Returns the weights `[B, H, T, S]` that `call` uses, without dropout.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_attention_weights(self, "attention_weights")
        span = self._project_span(inputs, memory, memory_mask)
        return self.span_weights(self.project_query(inputs), [span])

    def project_memory(self, memory: Vectors, memory_mask: Mask) -> KeyValues:
        """Computes what all steps of decoding need of the memory `[B, S, D]`, once.

        `memory_mask` is boolean, `[B, S]`. Where it hides everything, the values are 0, so that
        nothing is attended to, as in `call`.
        """
        key, value = self.project_key_value(memory)
        anything = ops.cast(ops.any(memory_mask, axis=1), value.dtype)  # [B]
        anything = ops.reshape(anything, (-1, 1, 1, 1))
        memory_keys = KeyValues(key, value * anything)
        return memory_keys if self._sums_products else memory_keys.transposed()

    def step(self, inputs: Vectors, memory: KeyValues, at: StepContext) -> Vectors:
        """Attends from the newest position of every hypothesis to its sentence's memory.

        The K hypotheses of a sentence share one memory: they are its K queries, so that nothing
        is copied K times.

        Args:
            inputs: Float tensor `[B, K, D]`.
            memory: What `project_memory` returned.
            at: Where the inputs stand; its `memory_penalty` hides padding. The weights are
                appended to its `cross_weights`, if that is a list.

        Returns:
            Float tensor `[B, K, D]`.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_overrides(self)
        keys = ops.arange(ops.shape(memory.value)[2], dtype="int32")
        span = KeySpan(
            memory.plain_key,
            memory.value,
            Positions(at.positions, keys),
            penalty=at.memory_penalty,
            by_sums=at.by_sums,
        )
        query = self.project_query(inputs)
        if at.cross_weights is not None:
            at.cross_weights.append(self.span_weights(query, [span]))
        return self.merge(self.attend(query, [span], training=False))

    def _project_span(self, inputs: Vectors, memory: Vectors, memory_mask: Mask | None) -> KeySpan:
        """Returns the span of a whole memory's keys and values."""
        check_axes("memory", memory, "[B, S, D]")
        check_mask("memory_mask", memory_mask, "memory", memory)
        lengths = ops.shape(inputs)[1], ops.shape(memory)[1]
        mask = attention_mask(memory_mask, query_length=lengths[0], key_length=lengths[1])
        return KeySpan(*self.project_key_value(memory), Positions.from_start(*lengths), mask=mask)
