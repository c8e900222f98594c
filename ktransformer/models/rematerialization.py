"""Rematerialization: the backward pass recomputes activations instead of storing them."""

from typing import Any

import keras
from keras import ops


def call_rematerialized(layer: keras.layers.Layer, *inputs: Any, **arguments: Any) -> Any:
    """Calls a layer so that the backward pass stores its inputs alone.

    Dropout zeroes the same features in the recomputation, because its seeds are inputs as well.
    The variables that the call changes, such as those seeds and the moving averages of batch
    normalization, are outputs and are assigned once; all others keep their values exactly.
    `keras.RematScope` does not handle the seeds, nor keyword arguments in a TensorFlow graph.

    Args:
        layer: A built layer with one output tensor.
        *inputs: Float tensors; None for one that the layer is called without.
        **arguments: Other arguments of the call.

    Returns:
        The output, a float tensor. Losses of the layer are added to it as in a plain call.

    Reference: Chen et al. 2016 (sublinear memory cost).
    """
    variables = layer.variables
    changed: list[Any] = []

    def run(*tensors: Any) -> tuple[Any, ...]:
        rest = iter(tensors)
        given = [None if each is None else next(rest) for each in inputs]
        values = list(zip(variables, rest, strict=True))
        with keras.StatelessScope(values, collect_losses=True) as scope:
            before = [scope.get_current_value(variable) for variable in variables]
            output = layer(*given, **arguments)
        changed[:] = [
            variable
            for variable, value in zip(variables, before, strict=True)
            if scope.get_current_value(variable) is not value
        ]
        return output, *(scope.get_current_value(variable) for variable in changed), *scope.losses

    stored = [each for each in inputs if each is not None]  # TensorFlow takes no None.
    stored += [ops.convert_to_tensor(variable) for variable in variables]
    output, *rest = keras.remat(run)(*stored)
    for variable, state in zip(changed, rest[: len(changed)], strict=True):
        variable.assign(state)
    for loss in rest[len(changed) :]:
        layer.add_loss(loss)
    return output
