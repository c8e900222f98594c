"""Reads and changes a subgraph of an unpacked .tflite."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_Kind, _Type = schema.BuiltinOperator, schema.TensorType


class GraphEditor:
    """Appends tensors and operators to a subgraph."""

    def __init__(self, model: Any, graph: Any) -> None:
        self.model, self.graph = model, graph

    def add_tensor(self, shape: list[int], type_: int = _Type.FLOAT32, buffer: int = 0) -> int:
        """Appends a tensor and returns its index; -1 stands for an unknown size."""
        self.graph.tensors.append(
            schema.TensorT(
                shape=np.abs(np.array(shape, np.int32)),
                shapeSignature=np.array(shape, np.int32) if -1 in shape else None,
                type=type_,
                buffer=buffer,
                hasRank=True,
            )
        )
        return len(self.graph.tensors) - 1

    def add_constant(self, values: Any) -> int:
        """Appends a constant, int32 or float32, and returns its tensor's index."""
        values = np.asarray(values)
        self.model.buffers.append(schema.BufferT(data=values.reshape(-1).view(np.uint8)))
        is_float = values.dtype == np.float32
        type_ = _Type.FLOAT32 if is_float else _Type.INT32
        return self.add_tensor(list(values.shape), type_, len(self.model.buffers) - 1)

    def add_into(
        self, output: int, kind: int, inputs: list[int], options: Any, version: int = 1
    ) -> None:
        """Appends an operator that computes the tensor `output`."""
        self.graph.operators.append(
            schema.OperatorT(
                opcodeIndex=self.code(kind, version),
                inputs=np.array(inputs, np.int32),
                outputs=np.array([output], np.int32),
                builtinOptionsType=getattr(
                    schema.BuiltinOptions, type(options).__name__.removesuffix("T")
                ),
                builtinOptions=options,
            )
        )

    def code(self, kind: int, version: int) -> int:
        """Returns the index of the operator code of this kind, at least this version."""
        codes = self.model.operatorCodes
        for i, code in enumerate(codes):
            if code.builtinCode == kind and code.version >= version:
                return i
        narrow = min(kind, _Kind.PLACEHOLDER_FOR_GREATER_OP_CODES)
        codes.append(
            schema.OperatorCodeT(deprecatedBuiltinCode=narrow, version=version, builtinCode=kind)
        )
        return len(codes) - 1


def kind_of(model: Any, operator: Any) -> int:
    """Returns which of `BuiltinOperator` an operator is."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def shape_of(tensor: Any) -> list[int]:
    """Returns a tensor's sizes, -1 where one is known only when the model runs."""
    shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return [] if shape is None else [int(size) for size in shape]


def is_constant(model: Any, graph: Any, tensor: int) -> bool:
    """Tells whether the file holds a tensor's values."""
    return model.buffers[graph.tensors[tensor].buffer].data is not None


def loop_bodies(model: Any) -> list[Any]:
    """Returns the subgraphs that loops repeat."""
    numbers = {
        operator.builtinOptions.bodySubgraphIndex
        for graph in model.subgraphs
        for operator in graph.operators
        if kind_of(model, operator) == _Kind.WHILE
    }
    return [model.subgraphs[number] for number in sorted(numbers)]
