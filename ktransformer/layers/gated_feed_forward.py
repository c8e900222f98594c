"""The gated position-wise feed-forward network: SwiGLU, GeGLU."""

from typing import Any

import keras

from ktransformer.layers.feed_forward import FeedForward
from ktransformer.layers.tensors import Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class GatedFeedForward(FeedForward):
    """Multiplies the inner layer by a gate: `(activation(x W_gate) * x W_hidden) W_output`.

    With three kernels instead of two it has as many weights as a `FeedForward` of 3/2 its
    `hidden_dim`.

    Args:
        hidden_dim: Features of the inner layer, at least 1.
        activation: Activation of the gate: `"silu"` makes it SwiGLU, `"gelu"` GeGLU.
        **kwargs: Arguments of `FeedForward`.

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
        outputs = GatedFeedForward(256, use_bias=False)(keras.random.normal((2, 7, 64)))
        ```

    Reference: Shazeer 2020, equations 5 and 6 (without biases there and in Llama).
    """

    def __init__(self, hidden_dim: int, *, activation: Any = "silu", **kwargs: Any) -> None:
        super().__init__(hidden_dim, activation=activation, **kwargs)

    def build(self, input_shape: Shape) -> None:
        """Creates the three kernels for inputs `[B, T, D]`."""
        super().build(input_shape)
        self.gate_projection = self.make_dense(self.hidden_dim, input_shape[-1], "gate_projection")

    def compute_hidden(self, inputs: Vectors) -> Vectors:
        return self.activation(self.gate_projection(inputs)) * self.hidden_projection(inputs)
