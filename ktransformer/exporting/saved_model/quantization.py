"""Stores the weights of a SavedModel in fewer bits; loading it widens them once, to float32."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.trackable.base import Trackable

from ktransformer.exporting.channels import quantize_channels
from ktransformer.tasks import Task

QUANTIZATIONS = ("none", "float16", "int8_weights")
_LEAST_ELEMENTS = 1024  # A smaller weight stays as it is.
_TABLE_SUFFIX = "embeddings"  # Of weights with a scale for each row; others have one a column.


def add_weights(saved: tf.Module, task: Task, quantization: str) -> None:
    """Gives a module that is to be saved the weights of a task, large ones in fewer bits.

    The graphs go on reading float variables. The checkpoint has narrow tensors in their place, and
    an initializer, which every loader runs after it has restored the checkpoint, fills the float
    variables. Requests are as fast as without quantisation; memory grows by the narrow tensors.

    Args:
        saved: The module.
        task: The task; its own weights stay as they are.
        quantization: One of `QUANTIZATIONS`. `"int8_weights"` stores a weight of at least 1,024
            numbers as int8 and a float32 scale for each output channel: each column of a kernel,
            each row of an embedding table, which is an output channel of a tied projection.
    """
    narrow: list[tuple[Any, tuple[tf.Variable, ...]]] = []
    # The plain variables, without the Keras objects around them. Keras gives each of its variables
    # a second handle when it is saved. Python's loader knows the two for one; TensorFlow Serving
    # and the C API restore only the one that no signature reads.
    saved.weights = []
    for weight in task.model.variables:
        parts = None if quantization == "none" else _narrow(weight, quantization)
        if parts is None:
            saved.weights.append(weight.value)
        else:
            narrow.append((weight.value, tuple(tf.Variable(x, trainable=False) for x in parts)))
    if not narrow:
        saved.search_variables = list(task.search_variables)
        return
    saved.narrow_weights = [parts for _, parts in narrow]
    # Those of the search are made of the model's, and need no place of their own either.
    wide = [variable for variable, _ in narrow]
    saved.wide_weights = [_Unsaved(each) for each in (*wide, *task.search_variables)]
    saved.widening = _Widening(task, narrow)


def _narrow(weight: Any, quantization: str) -> tuple[np.ndarray, ...] | None:
    """Returns the arrays that `_widen` takes; None for a weight that stays in float32."""
    values = np.asarray(weight)
    if values.dtype != np.float32 or values.ndim < 2 or values.size < _LEAST_ELEMENTS:
        return None
    if quantization == "float16":
        fits = np.abs(values).max() <= np.finfo(np.float16).max
        return (values.astype(np.float16),) if fits else None
    channel = 0 if weight.name.endswith(_TABLE_SUFFIX) else values.ndim - 1
    return quantize_channels(values, channel)


def _widen(values: tf.Tensor, scales: tf.Tensor | None = None) -> tf.Tensor:
    """Returns float32 weights."""
    wide = tf.cast(values, tf.float32)
    return wide if scales is None else wide * scales


class _Widening(tf.saved_model.experimental.TrackableResource):
    """Fills the float variables of a loaded SavedModel.

    TensorFlow runs the initializer of such a resource after the checkpoint is restored, in Python,
    in C and in TensorFlow Serving. Nothing reads the resource itself.

    Args:
        task: The task, for the variables of its search.
        narrow: The float variables, each with the variables that `_widen` takes.
    """

    def __init__(self, task: Task, narrow: list[tuple[Any, tuple[tf.Variable, ...]]]) -> None:
        super().__init__()
        self._task = task
        self._narrow = narrow

    def _create_resource(self) -> tf.Tensor:
        return tf.constant(0)

    def _initialize(self) -> None:
        for variable, parts in self._narrow:
            variable.assign(_widen(*parts))
        search = zip(self._task.search_variables, self._task.search_values(), strict=True)
        for variable, value in search:
            variable.assign(value)


class _Unsaved(Trackable):
    """Stands for a variable that a SavedModel has, but its checkpoint has not.

    Every loader makes the variable, for the functions that read it, and restores nothing into it.

    Args:
        variable: The variable.
    """

    _should_act_as_resource_variable = True  # TensorFlow asks for the attribute, not its value.

    def __init__(self, variable: Any) -> None:
        self._variable = variable

    def _export_to_saved_model_graph(
        self, object_map: Any, tensor_map: Any, options: Any, **_: Any
    ) -> list[Any]:
        handles: list[Any] = self._variable._export_to_saved_model_graph(
            object_map=object_map, tensor_map=tensor_map, options=options
        )
        return handles

    def _write_object_proto(self, proto: Any, options: Any) -> None:
        self._variable._write_object_proto(proto, options)
