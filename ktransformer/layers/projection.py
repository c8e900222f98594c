"""The dense layer inside our layers and models."""

from typing import Any, NoReturn

import keras


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
    """A `keras.layers.Dense` without `quantize`.

    Our layers create their projections in `build` from their own configuration, which does not
    record a quantized projection: loading its weights from a saved model would fail.

    Args:
        units: Features of the output.
        **kwargs: Arguments of `keras.layers.Dense`.

    Call arguments:
        inputs: Float tensor `[..., D]`.

    Returns:
        Float tensor `[..., units]`.

    Masking: passed through unchanged.
    """

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Raises a `NotImplementedError`."""
        refuse_quantization("A layer of ktransformer", mode)
