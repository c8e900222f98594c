"""Rematerialization: the backward pass recomputes activations instead of storing them."""

from typing import Any

import keras
from keras import ops


def call_rematerialized(layer: keras.layers.Layer, *inputs: Any, **arguments: Any) -> Any:
    """Calls a layer so that the backward pass stores its inputs alone.

    Dropout zeroes the same features in the recomputation, because its seeds are inputs as well.
    `keras.RematScope` does not handle the seeds, nor keyword arguments in a TensorFlow graph.

    Args:
        layer: A built layer with one output tensor.
        *inputs: Float tensors.
        **arguments: Other arguments of the call.

    Returns:
        The output, a float tensor. Losses of the layer are added to it as in a plain call.

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
