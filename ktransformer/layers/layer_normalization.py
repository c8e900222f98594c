"""Layer normalization with a custom gradient."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.tensors import Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class LayerNormalization(keras.layers.LayerNormalization):
    """Layer normalization with a custom gradient that stores fewer activations.

    For the backward pass it stores the normalized inputs and one number for each position;
    automatic differentiation would store several tensors as large as the inputs. Outputs and
    gradients equal those of `keras.layers.LayerNormalization` within rounding. Without training,
    and over other axes than the last, it is that layer.

    Args:
        **kwargs: Arguments of `keras.layers.LayerNormalization`.

    Call arguments:
        inputs: Float tensor `[..., D]`.
        training: Whether the custom gradient is used.

    Returns:
        Float tensor `[..., D]`.

    Masking: passed through unchanged.

    Example:
        ```python
        normed = LayerNormalization(epsilon=1e-5)(keras.random.normal((2, 7, 64)))
        ```

    Reference: Ba et al. 2016, "Layer Normalization", equation 4.
    """

    def build(self, input_shape: Shape) -> None:
        """Creates the scale and the offset for inputs `[..., D]`."""
        super().build(input_shape)
        axes = {axis: input_shape[axis] for axis in self.axis}
        self.input_spec = keras.InputSpec(axes=axes)

    def call(self, inputs: Vectors, training: bool | None = None) -> Any:
        over_last_axis = self.axis in ([-1], [len(inputs.shape) - 1])
        if not (training and over_last_axis and self.scale and self.center):
            return super().call(inputs)
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        rows = ops.reshape(ops.cast(inputs, dtype), (-1, inputs.shape[-1]))  # [N, D]
        outputs = self._normalize(rows, ops.cast(self.gamma, dtype), ops.cast(self.beta, dtype))
        return ops.cast(ops.reshape(outputs, ops.shape(inputs)), self.compute_dtype)

    def _normalize(self, rows: Any, gamma: Any, beta: Any) -> Any:
        @ops.custom_gradient
        def normalize(rows: Any, gamma: Any, beta: Any) -> Any:
            centred = rows - ops.mean(rows, axis=-1, keepdims=True)
            variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
            inverse = ops.rsqrt(variance + self.epsilon)  # [N, 1]
            normed = centred * inverse

            def gradient(*arguments: Any, upstream: Any = None) -> Any:
                upstream = arguments[0] if upstream is None else upstream
                of_normed = upstream * gamma
                mean = ops.mean(of_normed, axis=-1, keepdims=True)
                along = ops.mean(of_normed * normed, axis=-1, keepdims=True)
                of_rows = (of_normed - mean - normed * along) * inverse
                return of_rows, ops.sum(upstream * normed, axis=0), ops.sum(upstream, axis=0)

            return normed * gamma + beta, gradient

        return normalize(rows, gamma, beta)
