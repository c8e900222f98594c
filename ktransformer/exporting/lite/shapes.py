"""Makes shapes constant that a .tflite would compute.

Keras computes the shape that some of its operations reshape to, such as `Dense` of three axes and
`repeat`, though only the batch is unknown in it. A constant with -1 says the same, and XNNPACK
takes a RESHAPE with a constant shape only.
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ktransformer.exporting.lite.graph_editor import GraphEditor, is_constant, kind_of, shape_of

_Kind = schema.BuiltinOperator


def make_shapes_constant(model: Any) -> None:
    """Gives each RESHAPE a constant shape where one size at most is unknown in it.

    Args:
        model: The unpacked model; changed in place.
    """
    for graph in model.subgraphs:
        editor = GraphEditor(model, graph)
        changed = False
        for operator in graph.operators:
            if kind_of(model, operator) != _Kind.RESHAPE or len(operator.inputs) < 2:
                continue
            values, shape = operator.inputs
            sizes = _output_sizes(model, graph, operator)
            if is_constant(model, graph, shape) or not sizes or sizes.count(-1) > 1:
                continue
            known = editor.add_constant(np.array(sizes, np.int32))
            operator.inputs = np.array([values, known], np.int32)
            graph.tensors[operator.outputs[0]].shapeSignature = np.array(sizes, np.int32)
            changed = True
        if changed:
            _drop_unused(graph)


def _output_sizes(model: Any, graph: Any, reshape: Any) -> list[int]:
    """Returns the sizes that the output's tensor and a product that reads it tell."""
    (output,) = reshape.outputs
    sizes = shape_of(graph.tensors[output])
    for operator in graph.operators:
        is_product = kind_of(model, operator) == _Kind.FULLY_CONNECTED
        if is_product and operator.inputs[0] == output and len(sizes) == 2:
            sizes[1] = shape_of(graph.tensors[operator.inputs[1]])[1]  # Of [outputs, inputs].
    return sizes


def _drop_unused(graph: Any) -> None:
    """Drops the operators that computed a shape."""
    used, kept = {int(i) for i in graph.outputs}, []
    for operator in reversed(graph.operators):
        if used.intersection(int(i) for i in operator.outputs):
            used.update(int(i) for i in operator.inputs)
            kept.append(operator)
    graph.operators = kept[::-1]
