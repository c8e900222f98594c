"""The position-wise feed-forward network."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.checks import to_size
from ktransformer.layers.projection import ProjectingLayer
from ktransformer.layers.tensors import Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class FeedForward(ProjectingLayer):
    """Applies the same two-layer network at every position.

    Override `compute_hidden` for another inner layer; `GatedFeedForward` does.

    Args:
        hidden_dim: Features of the inner layer, at least 1.
        activation: Name of the inner activation (`"relu"`, `"gelu"`, `"silu"`) or a function.
        dropout: Probability of zeroing an inner feature, in [0, 1).
        use_bias: Whether the projections have a bias.
        kernel_initializer: Initializer of every kernel.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: `hidden_dim` is below 1 or `dropout` is not in [0, 1).

    Masking: passed through unchanged.

    Example:
        ```python
        outputs = FeedForward(256, activation="gelu")(keras.random.normal((2, 7, 64)))
        ```

    Reference: Vaswani et al. 2017, section 3.3 (ReLU there, and here by default).
    """

    def __init__(self, hidden_dim: int, *, activation: Any = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = to_size("hidden_dim", hidden_dim)
        self.activation = keras.activations.get(activation)
        self.hidden_dropout = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="hidden_dropout"
        )
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Creates the two kernels for inputs `[B, T, D]`."""
        d_model = input_shape[-1]
        self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: d_model})
        self.hidden_projection = self.make_dense(self.hidden_dim, d_model, "hidden_projection")
        self.output_projection = self.make_dense(d_model, self.hidden_dim, "output_projection")

    def compute_hidden(self, inputs: Vectors) -> Vectors:
        """Computes the inner layer at each position, a row each: `[N, D] -> [N, hidden_dim]`."""
        return self.activation(self.hidden_projection(inputs))

    def call(self, inputs: Vectors, training: bool | None = None) -> Vectors:
        # Rows, because a Dense on more axes adds operations that only compute shapes.
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))  # [B*T, D]
        hidden = self.hidden_dropout(self.compute_hidden(rows), training=training)
        outputs = self.output_projection(hidden)
        return ops.reshape(outputs, (-1, *ops.shape(inputs)[1:]))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "activation": keras.activations.serialize(self.activation),
        }
