"""The dense layer that our layers and models are made of."""

from typing import Any, NoReturn

import keras


def refuse_quantization(name: str, mode: Any) -> NoReturn:
    """Raises the error of `quantize`.

    A `NotImplementedError`, so that a functional model around our layers warns, leaves them as
    they are and can still be saved and loaded.
    """
    raise NotImplementedError(
        f"{name} cannot be quantized by Keras, because a saved model would not load again; got "
        f"mode={mode!r}. Quantize an export instead: ktransformer export --format tflite "
        "--quantize dynamic_int8."
    )


@keras.saving.register_keras_serializable(package="ktransformer")
class Projection(keras.layers.Dense):
    """Keras' dense layer without `quantize`.

    Our layers create their projections in `build`, from their own configuration, which does not
    say that one of them was quantized: its weights would not fit when a saved model is loaded.

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
