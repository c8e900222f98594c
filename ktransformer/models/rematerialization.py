"""Layers whose activations are computed again for the gradient, instead of being kept."""

from typing import Any

import keras
from keras import ops


def call_rematerialized(layer: keras.layers.Layer, *inputs: Any, **arguments: Any) -> Any:
    """Calls a layer, built, so that its gradient needs its inputs alone.

    Dropout zeroes the same features again: its seeds are inputs, too. Keras' own
    `RematScope` does not know that, and does not work in a TensorFlow graph with arguments by name.

    Args:
        layer: What to call; its output is one tensor.
        *inputs: Float tensors.
        **arguments: What else it takes.

    Returns:
        The output, float. Losses that the layer adds are added to it as ever.

    Reference: Chen et al. 2016 (sublinear memory cost).
    """
    variables = layer.variables
    changing = [variable for variable in variables if not variable.trainable]  # Dropout's seeds.

    def run(*tensors: Any) -> tuple[Any, ...]:
        values = list(zip(variables, tensors[len(inputs) :], strict=True))
        with keras.StatelessScope(values, collect_losses=True) as scope:
            output = layer(*tensors[: len(inputs)], **arguments)
            states = [scope.get_current_value(variable) for variable in changing]
            return output, *states, *scope.losses

    output, *rest = keras.remat(run)(*inputs, *(ops.convert_to_tensor(v) for v in variables))
    for variable, state in zip(changing, rest[: len(changing)], strict=True):
        variable.assign(state)
    for loss in rest[len(changing) :]:
        layer.add_loss(loss)
    return output
