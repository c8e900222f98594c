"""Base classes of layers whose symbolic outputs keep every static axis."""

from typing import Any

import keras

from ktransformer.layers.tensors import Shape


class DescribedLayer(keras.layers.Layer):
    """A layer whose symbolic output keeps every axis that `compute_output_shape` knows.

    A symbolic call traces `call`: it raises the same errors, and follows a subclass that returns
    another shape. Reshapes lose static axes in the trace; `compute_output_shape`, which wrappers
    such as `TimeDistributed` call as well, restores them.
    """

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Describes the output for symbolic arguments of `call`."""
        if not self.built:
            return super().compute_output_spec(*args, **kwargs)
        traced = keras.Operation.compute_output_spec(self, *args, **kwargs)
        return _with_axes_of(super().compute_output_spec(*args, **kwargs), traced)


class SameShapeLayer(DescribedLayer):
    """A layer whose output has the shape of its input."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_spec = keras.InputSpec(min_ndim=2)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Returns the shape of the input."""
        return input_shape


def _with_axes_of(described: Any, traced: Any) -> Any:
    """Fills in the unknown axes of a trace; returns the trace unchanged if the two disagree."""
    if not (isinstance(described, keras.KerasTensor) and isinstance(traced, keras.KerasTensor)):
        return traced
    if len(described.shape) != len(traced.shape):
        return traced
    pairs = list(zip(described.shape, traced.shape, strict=True))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return traced
    shape = tuple(known if open_axis is None else open_axis for known, open_axis in pairs)
    return keras.KerasTensor(shape, dtype=traced.dtype)
