"""Stores the weights of a float .tflite in fewer bytes.

TensorFlow's converter can do this too, but stores a table that is both embedding and output
projection twice, and widens it before the loop.
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ktransformer.exporting.channels import quantize_channels
from ktransformer.exporting.lite.graph_editor import GraphEditor, kind_of, shape_of
from ktransformer.exporting.lite.model_file import set_metadata

_LEAST_ELEMENTS = 1024  # A smaller constant stays as it is.
_HYBRID_VERSION = 12  # Of FULLY_CONNECTED, with a scale for each row of its weights ...
_HYBRID_RUNTIME = "2.17.0"  # ... and the first TensorFlow Lite that has it.
_Kind, _Type = schema.BuiltinOperator, schema.TensorType


def to_float16(model: Any) -> None:
    """Stores large constants as float16; each subgraph starts by widening those it uses.

    A constant that a subgraph gives as it is, such as an empty cache, stays in float32.

    Args:
        model: The unpacked model; changed in place.
    """
    halved: dict[int, np.ndarray] = {}  # By buffer: tensors of several subgraphs share one.
    given = {graph.tensors[i].buffer for graph in model.subgraphs for i in graph.outputs}
    for graph in model.subgraphs:
        operators, graph.operators = graph.operators, []
        graph_of = GraphEditor(model, graph)
        used = {i for operator in operators for i in operator.inputs}
        for i, tensor in enumerate(list(graph.tensors)):
            if tensor.buffer in given or not _is_large(model, tensor):
                continue
            if tensor.buffer not in halved:
                values = model.buffers[tensor.buffer].data.view(np.float32)
                if np.abs(values).max() > np.finfo(np.float16).max:
                    continue
                halved[tensor.buffer] = values.astype(np.float16)
            if i in used:
                narrow = graph_of.add_tensor(shape_of(tensor), _Type.FLOAT16, tensor.buffer)
                graph_of.add_into(
                    i, _Kind.DEQUANTIZE, [narrow], schema.DequantizeOptionsT(), version=3
                )
            tensor.buffer = 0
        graph.operators += operators
    for buffer, values in halved.items():
        model.buffers[buffer].data = values.view(np.uint8)


def to_int8(model: Any) -> None:
    """Stores the weights of matrix products and the embedding tables as int8, a scale a row.

    A product quantises its other side as it comes ("dynamic range"). A row that is looked up is
    multiplied by its scale. A table that is used in both ways (tied embeddings) is stored once:
    the product's outputs are then multiplied by the rows' scales.

    Args:
        model: The unpacked model; changed in place.
    """
    tables, weights = _find_weights(model)
    scales: dict[int, int] = {}  # Buffer of a table -> buffer of its rows' scales.
    parameters: dict[int, Any] = {}
    for buffer, shape in {**weights, **tables}.items():
        values = model.buffers[buffer].data.view(np.float32).reshape(shape)
        narrow, column = quantize_channels(values, 0)
        model.buffers[buffer].data = narrow.reshape(-1).view(np.uint8)
        row_scales = column.reshape(-1)
        if buffer in tables:
            model.buffers.append(schema.BufferT(data=row_scales.view(np.uint8)))
            scales[buffer] = len(model.buffers) - 1
            row_scales = np.ones(1, np.float32)
        parameters[buffer] = schema.QuantizationParametersT(
            scale=row_scales, zeroPoint=np.zeros(len(row_scales), np.int64)
        )
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer in parameters:
                tensor.type, tensor.quantization = _Type.INT8, parameters[tensor.buffer]
        operators, graph.operators = graph.operators, []
        graph_of = _Operators(model, graph)
        for operator in operators:
            at = _weight_input(model, operator)
            buffer = 0 if at is None else graph.tensors[operator.inputs[at]].buffer
            if buffer not in parameters:
                graph.operators.append(operator)
            elif kind_of(model, operator) == _Kind.GATHER:
                graph_of.look_up(operator, scales[buffer], tables[buffer][0])
            else:
                rows = tables[buffer][0] if buffer in tables else 0
                graph_of.multiply(operator, scales.get(buffer), rows)
    set_metadata(model, _HYBRID_RUNTIME.ljust(16, "\0"), "min_runtime_version")


class _Operators(GraphEditor):
    """Appends what computes with int8 weights to a subgraph."""

    def look_up(self, gather: Any, scales: int, rows: int) -> None:
        """Looks up int8 rows and their scales, and multiplies the two."""
        table, ids = gather.inputs
        (output,) = gather.outputs
        shape, options = shape_of(self.graph.tensors[output]), gather.builtinOptions
        column = self.add_tensor([rows, 1], buffer=scales)
        found = self.add_tensor(shape, _Type.INT8)
        self.add_into(found, _Kind.GATHER, [table, ids], options)
        wide = self.add_tensor(shape)
        casts = schema.CastOptionsT(_Type.INT8, _Type.FLOAT32)
        self.add_into(wide, _Kind.CAST, [found], casts)
        own = self.add_tensor([*shape[:-1], 1])
        self.add_into(own, _Kind.GATHER, [column, ids], options)
        self.add_into(output, _Kind.MUL, [wide, own], schema.MulOptionsT())

    def multiply(self, product: Any, scales: int | None, rows: int) -> None:
        """Multiplies by int8 weights; with `scales`, those of a table, scales the outputs.

        A bias comes after the scales then, in an operator of its own.
        """
        product.opcodeIndex = self.code(_Kind.FULLY_CONNECTED, _HYBRID_VERSION)
        product.builtinOptions.asymmetricQuantizeInputs = True  # As TensorFlow's converter does.
        self.graph.operators.append(product)
        if scales is not None:
            (output,) = product.outputs
            shape = shape_of(self.graph.tensors[output])
            unscaled, row = self.add_tensor(shape), self.add_tensor([rows], buffer=scales)
            values, weights, *bias = product.inputs
            product.inputs = np.array([values, weights, -1], np.int32)
            product.outputs = np.array([unscaled], np.int32)
            has_bias = any(i >= 0 for i in bias)
            scaled = self.add_tensor(shape) if has_bias else output
            self.add_into(scaled, _Kind.MUL, [unscaled, row], schema.MulOptionsT())
            if has_bias:
                self.add_into(output, _Kind.ADD, [scaled, *bias], schema.AddOptionsT())


def _find_weights(model: Any) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]]:
    """Finds the buffers of tables and of weights, and their shapes.

    A constant that any other operator reads is in neither: it has to stay in float. So does a table
    that a product with an activation reads, for the activation would see unscaled outputs.
    """
    tables: dict[int, tuple[int, int]] = {}
    weights: dict[int, tuple[int, int]] = {}
    others: set[int] = set()
    finished: set[int] = set()  # By an activation within the product.
    for graph in model.subgraphs:
        others.update(graph.tensors[i].buffer for i in graph.outputs)
        for operator in graph.operators:
            at = _weight_input(model, operator)
            is_table = kind_of(model, operator) == _Kind.GATHER
            is_finished = not is_table and at is not None and _is_finished(operator)
            for i, index in enumerate(operator.inputs):
                tensor = graph.tensors[index]
                if i == at and len(tensor.shape) == 2 and _is_large(model, tensor):
                    (tables if is_table else weights)[tensor.buffer] = tuple(tensor.shape)
                    finished |= {tensor.buffer} if is_finished else set()
                elif index >= 0:
                    others.add(tensor.buffer)
    others |= finished & tables.keys()
    return (
        {buffer: shape for buffer, shape in tables.items() if buffer not in others},
        {buffer: shape for buffer, shape in weights.items() if buffer not in others},
    )


def _weight_input(model: Any, operator: Any) -> int | None:
    """Tells which input of an operator would be its weights or its table."""
    kind, options = kind_of(model, operator), operator.builtinOptions
    if kind == _Kind.GATHER:
        return 0 if options and (options.axis, options.batchDims) == (0, 0) else None
    return 1 if kind == _Kind.FULLY_CONNECTED else None


def _is_finished(product: Any) -> bool:
    """Tells whether a product applies an activation itself."""
    activation: int = product.builtinOptions.fusedActivationFunction
    return activation != schema.ActivationFunctionType.NONE


def _is_large(model: Any, tensor: Any) -> bool:
    """Tells whether a tensor is a float constant worth the trouble."""
    data = model.buffers[tensor.buffer].data
    return tensor.type == _Type.FLOAT32 and data is not None and len(data) >= 4 * _LEAST_ELEMENTS
