"""Activations that Keras has no name for."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="ktransformer")
def gelu_tanh(inputs: Any) -> Any:
    """Computes GELU by its approximation with a tangent, as GPT-2 does: floats of any shape.

    Reference: Hendrycks and Gimpel 2016, section 2, the first approximation.
    """
    return keras.activations.gelu(inputs, approximate=True)
