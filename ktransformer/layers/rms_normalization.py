"""Root mean square normalization."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.output_shapes import SameShapeLayer
from ktransformer.layers.tensors import Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class RMSNormalization(SameShapeLayer):
    """Divides a vector by the root mean square of its features and multiplies by a learned scale.

    Unlike layer normalization it subtracts no mean and adds no offset. Computed in float32.

    Args:
        epsilon: Added to the mean square, above 0.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[..., D]`.

    Returns:
        Float tensor `[..., D]`.

    Masking: passed through unchanged.

    Example:
        ```python
        normed = RMSNormalization(epsilon=1e-6)(keras.random.normal((2, 7, 64)))
        ```

    Reference: Zhang and Sennrich 2019, equation 4; with epsilon inside the root and the scale
        applied after the cast back, as in Llama (Touvron et al. 2023).
    """

    def __init__(self, *, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Creates the scale for inputs `[..., D]`."""
        self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        # Named as in layer normalization: optimizers exclude `gamma` from weight decay.
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")

    def call(self, inputs: Vectors) -> Any:
        features = ops.cast(inputs, "float32")  # A square overflows float16.
        mean_square = ops.mean(ops.square(features), axis=-1, keepdims=True)
        normed = features * ops.rsqrt(mean_square + self.epsilon)
        return ops.cast(normed, self.compute_dtype) * ops.cast(self.gamma, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
