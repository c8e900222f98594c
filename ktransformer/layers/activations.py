"""Activations that Keras has no name for."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ktransformer")
def gelu_tanh(inputs: Any) -> Any:
    """Computes the approximation of GELU by a hyperbolic tangent.

    Reference: Hendrycks and Gimpel 2016, section 2; the `gelu` of GPT-2 and the `gelu_new` of
        Hugging Face's models.
    """
    return ops.gelu(inputs, approximate=True)
