"""What self- and cross-attention share."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers.cache import Positions
from ktransformer.layers.checks import check_dropouts, check_heads, check_sizes
from ktransformer.layers.masks import masked_softmax
from ktransformer.layers.output_shapes import SameShapeLayer
from ktransformer.layers.projection import Projection


class MultiHeadAttention(SameShapeLayer):
    """The parts that self- and cross-attention share.

    Project (in the subclasses), `compute_scores`, `compute_weights`, `attend`, `merge`. `call` and
    the cached `step` share all but `attend`, which `step` does in its own way: a subclass that
    overrides `call` or `attend` overrides `step` as well, or cannot decode.
    """

    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {
        "call": ("step",),
        "attend": ("step",),
    }

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
        self.input_spec = keras.InputSpec(ndim=3)
        self.weights_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="weights_dropout"
        )

    def make_dense(self, features: int, input_dim: int, name: str) -> keras.layers.Dense:
        """Creates and builds one projection: a kernel `[input_dim, features]`, and its bias."""
        dense = Projection(
            features,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build((None, None, input_dim))
        return dense

    def _set_sizes(self, d_model: int) -> None:
        check_heads(d_model, self.num_heads)
        self.d_model = d_model
        self.head_dim = d_model // self.num_heads
        self.input_spec = keras.InputSpec(ndim=3, axes={-1: d_model})

    def project_heads(
        self, dense: keras.layers.Layer, inputs: Any, parts: int = 1
    ) -> tuple[Any, ...]:
        """Projects inputs and splits the result into heads.

        Args:
            dense: A layer from rows `[N, width]` to rows `[N, parts * D]`.
            inputs: Float tensor `[B, T, width]`.
            parts: How many tensors the layer makes at once.

        Returns:
            A tuple of `parts` tensors `[B, H, T, D/H]`.
        """
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
                While decoding, T is the number of hypotheses, all at one position, several keys
                may stand at one, and none stands after it.

        Returns:
            Float tensor `[B, H, T, S]`: `q k^T / sqrt(d_k)`.

        Reference: Vaswani et al. 2017, section 3.2.1, equation 1.
        """
        del positions
        scale = ops.cast(self.head_dim**-0.5, query.dtype)
        return ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))

    def compute_weights(self, scores: Any, mask: Any | None) -> Any:
        """Turns scores into attention weights.

        Args:
            scores: Float tensor `[B, H, T, S]`.
            mask: Boolean tensor that broadcasts to `scores`, True = attend, or None. In a step it
                is None: the scores of masked keys lie near -1e9 instead, and must get a weight
                of 0.

        Returns:
            Float tensor `[B, H, T, S]`.
        """
        return masked_softmax(scores, mask)

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        mask: Any | None,
        training: bool | None = None,
    ) -> Any:
        """Sums the values by the attention weights, over whole sequences; see the class.

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

    def _step_scores(
        self, query: Any, transposed_key: Any, penalty: Any, positions: Positions
    ) -> Any:
        """Computes scores in float32, far below all others at masked keys."""
        key = ops.transpose(transposed_key, (0, 1, 3, 2))
        return ops.cast(self.compute_scores(query, key, positions), "float32") - penalty

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
