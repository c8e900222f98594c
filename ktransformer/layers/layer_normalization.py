"""Layer normalization in few operations, with a custom gradient."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.tensors import Shape, Vectors


@keras.saving.register_keras_serializable(package="ktransformer")
class LayerNormalization(keras.layers.LayerNormalization):
    """Layer normalization in few operations, with a custom gradient that stores few activations.

    For the backward pass of a training it stores the normalized inputs and one number for each
    position; automatic differentiation would store several tensors as large as the inputs.
    Outputs and gradients equal those of `keras.layers.LayerNormalization` within rounding, in
    fewer operations. Over other axes than the last, or without scale or offset, it is that layer.

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
        if not (over_last_axis and self.scale and self.center):
            return super().call(inputs)
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        normalize = self._normalize_for_training if training else self._normalize
        outputs = normalize(*(ops.cast(x, dtype) for x in (inputs, self.gamma, self.beta)))
        return ops.cast(outputs, self.compute_dtype)

    def _standardize(self, inputs: Vectors) -> tuple[Any, Any]:
        """Returns inputs of mean 0 and variance 1, and 1 / their standard deviation, `[..., 1]`."""
        centred = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        inverse = ops.rsqrt(variance + self.epsilon)
        return centred * inverse, inverse

    def _normalize(self, inputs: Vectors, gamma: Any, beta: Any) -> Vectors:
        normed, _ = self._standardize(inputs)
        return normed * gamma + beta

    def _normalize_for_training(self, inputs: Vectors, gamma: Any, beta: Any) -> Vectors:
        @ops.custom_gradient
        def normalize(rows: Any, gamma: Any, beta: Any) -> Any:
            normed, inverse = self._standardize(rows)  # [N, D] and [N, 1]

            def gradient(*arguments: Any, upstream: Any = None) -> Any:
                upstream = arguments[0] if upstream is None else upstream
                of_normed = upstream * gamma
                mean = ops.mean(of_normed, axis=-1, keepdims=True)
                along = ops.mean(of_normed * normed, axis=-1, keepdims=True)
                of_rows = (of_normed - mean - normed * along) * inverse
                return of_rows, ops.sum(upstream * normed, axis=0), ops.sum(upstream, axis=0)

            return normed * gamma + beta, gradient

        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))  # [N, D]
        return ops.reshape(normalize(rows, gamma, beta), ops.shape(inputs))
