"""The dense layer inside our layers and models, and the base of the layers that have several."""

from typing import Any, NoReturn

import keras
from keras import ops

from ktransformer.layers.checks import check_dropouts
from ktransformer.layers.output_shapes import SameShapeLayer


def refuse_quantization(name: str, mode: Any) -> NoReturn:
    """Raises the error of `quantize`.

    It is a `NotImplementedError`, because on that error the `quantize` of a functional model warns
    and skips the layer, so that the model can still be saved and loaded.
    """
    raise NotImplementedError(
        f"{name} cannot be quantized by Keras, because a saved model would not load again; got "
        f"mode={mode!r}. Quantize an export instead: ktransformer export --format tflite "
        "--quantize dynamic_int8."
    )


@keras.saving.register_keras_serializable(package="ktransformer")
class Projection(keras.layers.Dense):
    """A `keras.layers.Dense` without `quantize`, and with a cheaper LoRA.

    Our layers create their projections in `build` from their own configuration, which does not
    record a quantized projection: loading its weights from a saved model would fail.

    After `enable_lora(rank)` it computes `x W + (x A) B alpha / rank`. Keras' own Dense adds the
    product `A B` to W first, whose gradient then costs as much as that of W.

    Args:
        units: Features of the output.
        **kwargs: Arguments of `keras.layers.Dense`.

    Call arguments:
        inputs: Float tensor `[..., D]`.

    Returns:
        Float tensor `[..., units]`.

    Masking: passed through unchanged.

    Reference: Hu et al. 2021, section 4.1 (LoRA).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not self.lora_enabled:
            return super().call(inputs, training=training)
        outputs = ops.matmul(inputs, self._kernel)
        change = ops.matmul(ops.matmul(inputs, self.lora_kernel_a), self.lora_kernel_b)
        outputs = outputs + change * (self.lora_alpha / self.lora_rank)
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs if self.activation is None else self.activation(outputs)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Raises a `NotImplementedError`."""
        refuse_quantization("A layer of ktransformer", mode)


class ProjectingLayer(SameShapeLayer):
    """A layer with a dropout inside, whose projections have the same options.

    Args:
        dropout: Probability of zeroing a feature, in [0, 1).
        use_bias: Whether the projections have a bias.
        kernel_initializer: Initializer of every kernel.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: `dropout` is not in [0, 1).
    """

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_dropouts(dropout=dropout)
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

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

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
