"""The encoder's and the decoder's block: sublayers, each with a residual and a norm."""

from collections.abc import Callable
from typing import Any, ClassVar

import keras

from ktransformer.layers.block_config import FEED_FORWARDS, ConfiguredLayer
from ktransformer.layers.cache import Cache, KeyValues, StepContext
from ktransformer.layers.checks import check_made
from ktransformer.layers.cross_attention import MultiHeadCrossAttention
from ktransformer.layers.output_shapes import SameShapeLayer
from ktransformer.layers.overrides import check_attention_weights, check_overrides
from ktransformer.layers.self_attention import MultiHeadSelfAttention
from ktransformer.layers.tensors import Mask, Scores, Shape, Vectors


class _Block(ConfiguredLayer, SameShapeLayer):
    """What both blocks share: the factories, the self-attention and the residual connection."""

    causal: ClassVar[bool]

    def __init__(self, num_heads: int, hidden_dim: int, **options: Any) -> None:
        super().__init__(num_heads=num_heads, hidden_dim=hidden_dim, **options)
        self.supports_masking = True

    def make_self_attention(self) -> keras.layers.Layer:
        """Creates the self-attention; override it for another one."""
        return MultiHeadSelfAttention(
            self.num_heads,
            num_kv_heads=self.num_kv_heads,
            positions=self.positions,
            causal=self.causal,
            dropout=self.attention_dropout,
            use_bias=self.use_bias,
            dtype=self.dtype_policy,
            name="self_attention",
        )

    def make_feed_forward(self) -> keras.layers.Layer:
        """Creates the feed-forward network; override it for another one."""
        network, activation = FEED_FORWARDS[self.block_config.feed_forward]
        return network(
            self.hidden_dim,
            activation=activation or self.activation,
            dropout=self.hidden_dropout,
            use_bias=self.use_bias,
            dtype=self.dtype_policy,
            name="feed_forward",
        )

    def _build_sublayers(self, inputs_shape: Shape) -> None:
        """Creates and builds the two sublayers, with norm and dropout, that every block has."""
        self.self_attention = self._make("self_attention")
        self.feed_forward = self._make("feed_forward")
        self.self_attention.build(inputs_shape)
        self.feed_forward.build(inputs_shape)
        self.self_attention_norm, self.self_attention_dropout = self._make_residual(
            "self_attention", inputs_shape
        )
        self.feed_forward_norm, self.feed_forward_dropout = self._make_residual(
            "feed_forward", inputs_shape
        )

    def _make(self, name: str) -> Any:
        """Returns what `make_{name}` made."""
        layer = getattr(self, f"make_{name}")()
        check_made(f"{type(self).__name__}.make_{name}", layer)
        return layer

    def _make_residual(self, name: str, inputs_shape: Shape) -> tuple[Any, Any]:
        """Creates the norm and the dropout of the residual connection around one sublayer."""
        norm = self.make_norm(f"{name}_norm")
        check_made(f"{type(self).__name__}.make_norm", norm)
        norm.build(inputs_shape)
        return norm, keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name=f"{name}_dropout"
        )

    def residual(
        self,
        name: str,
        sublayer: Callable[[Vectors], Vectors],
        inputs: Vectors,
        training: bool | None = False,
    ) -> Vectors:
        """Runs one sublayer with its norm, dropout and residual connection.

        `call` and the cached `step` both go through it for every sublayer.

        Args:
            name: The sublayer, `"self_attention"`, `"cross_attention"` or `"feed_forward"`; its
                norm and dropout are the attributes `{name}_norm` and `{name}_dropout`.
            sublayer: Computes the sublayer's outputs from what `before_sublayer` returned.
            inputs: Float tensor `[B, T, D]`.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, T, D]`.
        """
        norm = getattr(self, f"{name}_norm")
        outputs = sublayer(self.before_sublayer(norm, inputs))
        outputs = getattr(self, f"{name}_dropout")(outputs, training=training)
        return self.after_sublayer(norm, inputs, outputs)

    def before_sublayer(self, norm: keras.layers.Layer, inputs: Vectors) -> Vectors:
        """Returns the sublayer's inputs: normed in pre-norm, else unchanged.

        Override this and `after_sublayer` for another place of the norm or another residual.

        Args:
            norm: The norm of this sublayer.
            inputs: Float tensor `[B, T, D]`, the inputs of the residual connection.

        Returns:
            Float tensor `[B, T, D]`.
        """
        return norm(inputs) if self.norm_first else inputs

    def after_sublayer(
        self, norm: keras.layers.Layer, inputs: Vectors, outputs: Vectors
    ) -> Vectors:
        """Adds the sublayer's outputs to its inputs, and norms the sum in post-norm.

        Args:
            norm: The norm of this sublayer.
            inputs: Float tensor `[B, T, D]`, the inputs of the residual connection.
            outputs: Float tensor `[B, T, D]`, the sublayer's outputs.

        Returns:
            Float tensor `[B, T, D]`.
        """
        return inputs + outputs if self.norm_first else norm(inputs + outputs)

    def _attend_to_self(self, inputs: Vectors, mask: Mask | None, training: bool | None) -> Vectors:
        """Runs the self-attention with its residual: `[B, T, D] -> [B, T, D]`."""

        def attend(hidden: Vectors) -> Vectors:
            return self.self_attention(hidden, mask=mask, training=training)

        return self.residual("self_attention", attend, inputs, training)

    def _feed(self, inputs: Vectors, training: bool | None) -> Vectors:
        """Runs the feed-forward network with its residual: `[B, T, D] -> [B, T, D]`."""

        def feed(hidden: Vectors) -> Vectors:
            return self.feed_forward(hidden, training=training)

        return self.residual("feed_forward", feed, inputs, training)

    def _self_attention_weights(self, inputs: Vectors, mask: Mask | None) -> Scores:
        """Returns the self-attention weights `[B, H, T, T]` of a block that begins with it."""

        def weigh(hidden: Vectors) -> Scores:
            return self.self_attention.attention_weights(hidden, mask=mask)

        return self._weights_in_residual("self_attention", weigh, inputs)

    def _weights_in_residual(
        self, name: str, weigh: Callable[[Vectors], Scores], inputs: Vectors
    ) -> Scores:
        """Returns the weights of an attention for the inputs that `residual` hands to it.

        Args:
            name: The sublayer, as for `residual`.
            weigh: Computes the weights from what the sublayer is given.
            inputs: Float tensor `[B, T, D]`, the inputs of the residual connection.
        """
        found: list[Scores] = []

        def attend(hidden: Vectors) -> Vectors:
            found.append(weigh(hidden))
            return hidden  # Any output: the weights do not depend on it.

        self.residual(name, attend, inputs)
        return found[-1]


@keras.saving.register_keras_serializable(package="ktransformer")
class EncoderBlock(_Block):
    """Self-attention, then a feed-forward network, each with a residual and a norm.

    Override `make_self_attention`, `make_feed_forward` or `make_norm` to replace a part.

    Args:
        num_heads: H, the number of attention heads.
        hidden_dim: Features of the feed-forward network's inner layer.
        **options: The other fields of `BlockConfig`, and arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`.
        mask: Boolean tensor `[B, T]`, True at real positions; filled in by Keras.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: See `BlockConfig`; or `num_heads` does not divide D.
        TypeError: An argument is unknown.

    Masking: padded positions are never attended to; the mask is passed on unchanged.

    Example:
        ```python
        block = EncoderBlock(4, 256, dropout=0.1)
        outputs = block(keras.random.normal((2, 7, 64)))  # (2, 7, 64)
        ```

    Reference: Vaswani et al. 2017, section 3.1 (post-norm); Xiong et al. 2020 (pre-norm).
    """

    causal = False

    def build(self, input_shape: Shape) -> None:
        """Creates and builds the sublayers for inputs `[B, T, D]`."""
        self._build_sublayers(input_shape)

    def call(
        self, inputs: Vectors, mask: Mask | None = None, training: bool | None = None
    ) -> Vectors:
        return self._feed(self._attend_to_self(inputs, mask, training), training)

    def attention_weights(self, inputs: Vectors, mask: Mask | None = None) -> Scores:
        """Returns the self-attention weights `[B, H, T, T]` for the block's inputs.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_attention_weights(self, "attention_weights")
        return self._self_attention_weights(inputs, mask)


@keras.saving.register_keras_serializable(package="ktransformer")
class DecoderBlock(_Block):
    """Causal self-attention, cross-attention and a feed-forward network.

    Each has a residual and a norm. Override `make_self_attention`, `make_cross_attention`,
    `make_feed_forward` or `make_norm` to replace a part. A block that is built without a memory
    has no cross-attention: it is the block of a decoder-only model.

    Args:
        num_heads: H, the number of attention heads.
        hidden_dim: Features of the feed-forward network's inner layer.
        **options: The other fields of `BlockConfig`, and arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`.
        memory: Float tensor `[B, S, D]`, the encoder's output; None without cross-attention.
        inputs_mask: Boolean tensor `[B, T]`, True at real positions; filled in by Keras.
        memory_mask: Boolean tensor `[B, S]`, likewise.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: See `BlockConfig`; `num_heads` does not divide D; or there is a memory where
            the block was built without one, or none where it was built with one.
        TypeError: An argument is unknown.

    Masking: padding is never attended to, nor are later positions; the mask of `inputs` is
        passed on unchanged.

    Example:
        ```python
        block = DecoderBlock(4, 256, dropout=0.1)
        outputs = block(keras.random.normal((2, 7, 64)), keras.random.normal((2, 9, 64)))
        ```

    Reference: Vaswani et al. 2017, section 3.1 (post-norm); Xiong et al. 2020 (pre-norm);
        Radford et al. 2019, section 2.3 (no cross-attention).
    """

    causal = True
    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {"call": ("step",)}

    def make_cross_attention(self) -> keras.layers.Layer:
        """Creates the cross-attention; override it for another one."""
        return MultiHeadCrossAttention(
            self.num_heads,
            num_kv_heads=self.num_kv_heads,
            dropout=self.attention_dropout,
            use_bias=self.use_bias,
            dtype=self.dtype_policy,
            name="cross_attention",
        )

    def build(self, inputs_shape: Shape, memory_shape: Shape | None = None) -> None:
        """Creates and builds the sublayers.

        Args:
            inputs_shape: `[B, T, D]`.
            memory_shape: `[B, S, D]`; None for a block without cross-attention.
        """
        self._build_sublayers(inputs_shape)
        self.cross_attention: Any = None
        if memory_shape is None:
            return
        self.cross_attention = self._make("cross_attention")
        self.cross_attention.build(inputs_shape, memory_shape)
        self.cross_attention_norm, self.cross_attention_dropout = self._make_residual(
            "cross_attention", inputs_shape
        )

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Shape = None) -> Shape:
        """Returns the shape of the inputs."""
        return inputs_shape

    def call(
        self,
        inputs: Vectors,
        memory: Vectors | None = None,
        inputs_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        training: bool | None = None,
    ) -> Vectors:
        if memory is None and inputs_mask is None:  # Keras fills it in for two tensors alone.
            inputs_mask = getattr(inputs, "_keras_mask", None)
        hidden = self._attend_to_self(inputs, inputs_mask, training)

        def attend(hidden: Vectors) -> Vectors:
            return self.cross_attention(hidden, memory, memory_mask=memory_mask, training=training)

        if self._has_memory(memory):
            hidden = self.residual("cross_attention", attend, hidden, training)
        return self._feed(hidden, training)

    def step(
        self, inputs: Vectors, cache: Cache, memory: KeyValues | None, at: StepContext
    ) -> tuple[Any, Cache]:
        """Decodes one new position of every hypothesis.

        Args:
            inputs: Float tensor `[B, K, D]`, the K hypotheses of each sentence.
            cache: The self-attention's, filled up to the newest position.
            memory: What the cross-attention's `project_memory` returned; None without one.
            at: Where the inputs stand and what they may see.

        Returns:
            The outputs `[B, K, D]`, equal to what `call` gives at this position, and the cache
            with it written in.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_overrides(self)

        def attend_to_self(hidden: Vectors) -> Vectors:
            nonlocal cache
            outputs, cache = self.self_attention.step(hidden, cache, at)
            return outputs

        def attend(hidden: Vectors) -> Vectors:
            return self.cross_attention.step(hidden, memory, at)

        hidden = self.residual("self_attention", attend_to_self, inputs)
        if self._has_memory(memory):
            hidden = self.residual("cross_attention", attend, hidden)
        return self._feed(hidden, training=False), cache

    def _has_memory(self, memory: Vectors | None) -> bool:
        """Tells whether there is cross-attention; raises where the memory does not fit that."""
        if (memory is None) != (self.cross_attention is None):
            built, got = ("without", "one") if self.cross_attention is None else ("with", "None")
            raise ValueError(
                f"memory must fit the cross-attention of {self.name!r}, which was built {built} "
                f"a memory; got {got}."
            )
        return memory is not None

    def attention_weights(self, inputs: Vectors, mask: Mask | None = None) -> Scores:
        """Returns the self-attention weights `[B, H, T, T]` for the block's inputs.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_attention_weights(self, "attention_weights")
        return self._self_attention_weights(inputs, mask)

    def cross_attention_weights(
        self,
        inputs: Vectors,
        memory: Vectors,
        inputs_mask: Mask | None = None,
        memory_mask: Mask | None = None,
    ) -> Any:
        """Returns the cross-attention weights `[B, H, T, S]` for the block's inputs.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_attention_weights(self, "cross_attention_weights")
        hidden = self._attend_to_self(inputs, inputs_mask, training=False)

        def weigh(hidden: Vectors) -> Scores:
            return self.cross_attention.attention_weights(hidden, memory, memory_mask)

        return self._weights_in_residual("cross_attention", weigh, hidden)
