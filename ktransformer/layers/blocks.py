"""The encoder's and the decoder's block: sublayers, each with a residual and a norm."""

from typing import Any, ClassVar

import keras

from ktransformer.layers.cache import Cache, KeyValues, StepContext
from ktransformer.layers.checks import check_dropouts, check_sizes
from ktransformer.layers.cross_attention import MultiHeadCrossAttention
from ktransformer.layers.feed_forward import FeedForward
from ktransformer.layers.layer_normalization import LayerNormalization
from ktransformer.layers.output_shapes import SameShapeLayer
from ktransformer.layers.overrides import check_overrides
from ktransformer.layers.self_attention import MultiHeadSelfAttention


class _Block(SameShapeLayer):
    """What both blocks share: their arguments, the factories, and the residual connection."""

    def __init__(
        self,
        num_heads: int,
        hidden_dim: int,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        activation: Any = "relu",
        norm_first: bool = False,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(num_heads=num_heads, hidden_dim=hidden_dim)
        check_dropouts(
            dropout=dropout, attention_dropout=attention_dropout, hidden_dropout=hidden_dropout
        )
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.hidden_dropout = hidden_dropout
        self.activation = keras.activations.get(activation)
        self.norm_first = norm_first
        self.epsilon = epsilon
        self.supports_masking = True

    def make_self_attention(self) -> keras.layers.Layer:
        """Creates the self-attention; override it for another one."""
        return MultiHeadSelfAttention(
            self.num_heads,
            causal=self.causal,
            dropout=self.attention_dropout,
            dtype=self.dtype_policy,
            name="self_attention",
        )

    def make_feed_forward(self) -> keras.layers.Layer:
        """Creates the feed-forward network; override it for another one."""
        return FeedForward(
            self.hidden_dim,
            activation=self.activation,
            dropout=self.hidden_dropout,
            dtype=self.dtype_policy,
            name="feed_forward",
        )

    def make_norm(self, name: str) -> keras.layers.Layer:
        """Creates one norm; called once a sublayer. Override it for another norm."""
        return LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)

    def _build_sublayers(self, inputs_shape: Any) -> None:
        """Creates and builds the two sublayers, with norm and dropout, that every block has."""
        self.self_attention = self.make_self_attention()
        self.feed_forward = self.make_feed_forward()
        self.self_attention.build(inputs_shape)
        self.feed_forward.build(inputs_shape)
        self.self_attention_norm, self.self_attention_dropout = self._make_residual(
            "self_attention", inputs_shape
        )
        self.feed_forward_norm, self.feed_forward_dropout = self._make_residual(
            "feed_forward", inputs_shape
        )

    def _make_residual(self, name: str, inputs_shape: Any) -> tuple[Any, Any]:
        """Creates the norm and the dropout of the residual connection around one sublayer."""
        norm = self.make_norm(f"{name}_norm")
        norm.build(inputs_shape)
        return norm, keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name=f"{name}_dropout"
        )

    def before_sublayer(self, norm: keras.layers.Layer, inputs: Any) -> Any:
        """Returns what the sublayer sees: the normed inputs in pre-norm, else the inputs.

        Override this and `after_sublayer` for another place of the norm or another residual.
        """
        return norm(inputs) if self.norm_first else inputs

    def after_sublayer(self, norm: keras.layers.Layer, inputs: Any, outputs: Any) -> Any:
        """Adds the sublayer's outputs to its inputs, and norms the sum in post-norm.

        Args:
            norm: The norm of this sublayer.
            inputs: Float tensor `[B, T, D]`, what came into the residual connection.
            outputs: Float tensor `[B, T, D]`, what the sublayer made of it.

        Returns:
            Float tensor `[B, T, D]`.
        """
        return inputs + outputs if self.norm_first else norm(inputs + outputs)

    def _attend_to_self(self, inputs: Any, mask: Any | None, training: bool | None) -> Any:
        """Runs the self-attention with its residual: `[B, T, D] -> [B, T, D]`."""
        seen = self.before_sublayer(self.self_attention_norm, inputs)
        outputs = self.self_attention(seen, mask=mask, training=training)
        outputs = self.self_attention_dropout(outputs, training=training)
        return self.after_sublayer(self.self_attention_norm, inputs, outputs)

    def _feed(self, inputs: Any, training: bool | None) -> Any:
        """Runs the feed-forward network with its residual: `[B, T, D] -> [B, T, D]`."""
        seen = self.before_sublayer(self.feed_forward_norm, inputs)
        outputs = self.feed_forward(seen, training=training)
        outputs = self.feed_forward_dropout(outputs, training=training)
        return self.after_sublayer(self.feed_forward_norm, inputs, outputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "hidden_dropout": self.hidden_dropout,
            "activation": keras.activations.serialize(self.activation),
            "norm_first": self.norm_first,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="ktransformer")
class EncoderBlock(_Block):
    """Self-attention, then a feed-forward network, each with a residual and a norm.

    Override `make_self_attention`, `make_feed_forward` or `make_norm` to replace a part.

    Args:
        num_heads: H, the number of attention heads.
        hidden_dim: Features of the feed-forward network's inner layer.
        dropout: Probability of zeroing a feature of a sublayer's output, in [0, 1).
        attention_dropout: The same for attention weights.
        hidden_dropout: The same for the feed-forward network's inner features.
        activation: Inner activation of the feed-forward network.
        norm_first: True for pre-norm (`x + f(norm(x))`), False for post-norm
            (`norm(x + f(x))`).
        epsilon: Added to the variance in the norm.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`.
        mask: Boolean tensor `[B, T]`, True at real positions; filled in by Keras.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: A size is below 1, `num_heads` does not divide D, or a dropout is not in
            [0, 1).

    Masking: padded positions are never attended to; the mask is passed on unchanged.

    Example:
        ```python
        block = EncoderBlock(4, 256, dropout=0.1)
        outputs = block(keras.random.normal((2, 7, 64)))  # (2, 7, 64)
        ```

    Reference: Vaswani et al. 2017, section 3.1 (post-norm); Xiong et al. 2020 (pre-norm).
    """

    causal = False

    def build(self, input_shape: Any) -> None:
        """Creates and builds the sublayers for inputs `[B, T, D]`."""
        self._build_sublayers(input_shape)

    def call(self, inputs: Any, mask: Any | None = None, training: bool | None = None) -> Any:
        return self._feed(self._attend_to_self(inputs, mask, training), training)

    def attention_weights(self, inputs: Any, mask: Any | None = None) -> Any:
        """Returns the self-attention weights `[B, H, T, T]` for the block's inputs."""
        return self.self_attention.attention_weights(
            self.before_sublayer(self.self_attention_norm, inputs), mask=mask
        )


@keras.saving.register_keras_serializable(package="ktransformer")
class DecoderBlock(_Block):
    """Causal self-attention, cross-attention and a feed-forward network.

    Each has a residual and a norm. Override `make_self_attention`, `make_cross_attention`,
    `make_feed_forward` or `make_norm` to replace a part.

    Args:
        num_heads: H, the number of attention heads.
        hidden_dim: Features of the feed-forward network's inner layer.
        dropout: Probability of zeroing a feature of a sublayer's output, in [0, 1).
        attention_dropout: The same for attention weights.
        hidden_dropout: The same for the feed-forward network's inner features.
        activation: Inner activation of the feed-forward network.
        norm_first: True for pre-norm, False for post-norm.
        epsilon: Added to the variance in the norm.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`.
        memory: Float tensor `[B, S, D]`, the encoder's output.
        inputs_mask: Boolean tensor `[B, T]`, True at real positions; filled in by Keras.
        memory_mask: Boolean tensor `[B, S]`, likewise.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: A size is below 1, `num_heads` does not divide D, or a dropout is not in
            [0, 1).

    Masking: padding is never attended to, nor are later positions; the mask of `inputs` is
        passed on unchanged.

    Example:
        ```python
        block = DecoderBlock(4, 256, dropout=0.1)
        outputs = block(keras.random.normal((2, 7, 64)), keras.random.normal((2, 9, 64)))
        ```

    Reference: Vaswani et al. 2017, section 3.1 (post-norm); Xiong et al. 2020 (pre-norm).
    """

    causal = True
    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {"call": ("step",)}

    def make_cross_attention(self) -> keras.layers.Layer:
        """Creates the cross-attention; override it for another one."""
        return MultiHeadCrossAttention(
            self.num_heads,
            dropout=self.attention_dropout,
            dtype=self.dtype_policy,
            name="cross_attention",
        )

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        """Creates and builds the sublayers for inputs `[B, T, D]` and memory `[B, S, D]`."""
        self._build_sublayers(inputs_shape)
        self.cross_attention = self.make_cross_attention()
        self.cross_attention.build(inputs_shape, memory_shape)
        self.cross_attention_norm, self.cross_attention_dropout = self._make_residual(
            "cross_attention", inputs_shape
        )

    def compute_output_shape(self, inputs_shape: Any, memory_shape: Any = None) -> Any:
        """Returns the shape of the inputs."""
        return inputs_shape

    def call(
        self,
        inputs: Any,
        memory: Any,
        inputs_mask: Any | None = None,
        memory_mask: Any | None = None,
        training: bool | None = None,
    ) -> Any:
        hidden = self._attend_to_self(inputs, inputs_mask, training)
        outputs = self.cross_attention(
            self.before_sublayer(self.cross_attention_norm, hidden),
            memory,
            memory_mask=memory_mask,
            training=training,
        )
        outputs = self.cross_attention_dropout(outputs, training=training)
        hidden = self.after_sublayer(self.cross_attention_norm, hidden, outputs)
        return self._feed(hidden, training)

    def step(
        self, inputs: Any, cache: Cache, memory: KeyValues, at: StepContext
    ) -> tuple[Any, Cache]:
        """Decodes one new position of every hypothesis.

        Args:
            inputs: Float tensor `[B, K, D]`, the K hypotheses of each sentence.
            cache: The self-attention's, filled up to the newest position.
            memory: What the cross-attention's `project_memory` returned.
            at: Where the inputs stand and what they may see.

        Returns:
            The outputs `[B, K, D]`, equal to what `call` gives at this position, and the cache
            with it written in.

        Raises:
            NotImplementedError: A subclass overrides `call` and not this.
        """
        check_overrides(self)
        seen = self.before_sublayer(self.self_attention_norm, inputs)
        outputs, cache = self.self_attention.step(seen, cache, at)
        hidden = self.after_sublayer(self.self_attention_norm, inputs, outputs)
        seen = self.before_sublayer(self.cross_attention_norm, hidden)
        outputs = self.cross_attention.step(seen, memory, at)
        hidden = self.after_sublayer(self.cross_attention_norm, hidden, outputs)
        return self._feed(hidden, training=False), cache

    def cross_attention_weights(
        self,
        inputs: Any,
        memory: Any,
        inputs_mask: Any | None = None,
        memory_mask: Any | None = None,
    ) -> Any:
        """Returns the cross-attention weights `[B, H, T, S]` for the block's inputs."""
        hidden = self._attend_to_self(inputs, inputs_mask, training=False)
        return self.cross_attention.attention_weights(
            self.before_sublayer(self.cross_attention_norm, hidden), memory, memory_mask
        )
