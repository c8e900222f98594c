"""Makes a .tflite smaller: drops the parts that no interpreter reads, keeps equal ones once.

The signatures of a translator repeat each other: the same encoder, the same loop. In a flatbuffer
equal tables may be one table that several places point to.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np


def compact(model: Any) -> None:
    """Drops inner names and empty buffers; of equal tensors, operators and subgraphs, keeps one.

    Args:
        model: The unpacked model; changed in place.
    """
    _drop_empty_buffers(model)
    _drop_inner_names(model)
    for number in range(len(model.subgraphs)):
        _renumber_tensors(model, number)
    seen: dict[Any, Any] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None  # It says only that there is none.
            tensor.quantization = _once(tensor.quantization, seen)
        for operator in graph.operators:
            operator.builtinOptions = _once(operator.builtinOptions, seen)
        graph.tensors = [_once(tensor, seen) for tensor in graph.tensors]
        graph.operators = [_once(operator, seen) for operator in graph.operators]
    model.subgraphs = [_once(graph, seen) for graph in model.subgraphs]


def share_constants(model: Any) -> None:
    """Lets all tensors of equal constants share the first one's buffer; the others become empty.

    Args:
        model: The unpacked model; changed in place.
    """
    first: dict[bytes, int] = {}
    places = []
    for number, buffer in enumerate(model.buffers):
        filled = buffer.data is not None and len(buffer.data)
        key = hashlib.sha256(buffer.data).digest() if filled else b""
        places.append(first.setdefault(key, number) if filled else number)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = places[tensor.buffer]
    kept = {*places, *(entry.buffer for entry in model.metadata or [])}
    for number, buffer in enumerate(model.buffers):
        if number not in kept:
            buffer.data = None


def _drop_empty_buffers(model: Any) -> None:
    """Lets every tensor without a constant share buffer 0, which the schema keeps empty."""
    places, kept = [], [model.buffers[0]]
    for buffer in model.buffers:
        empty = buffer.data is None or not len(buffer.data)
        places.append(0 if empty else len(kept))
        if not empty:
            kept.append(buffer)
    model.buffers = kept
    for entry in model.metadata or []:
        entry.buffer = places[entry.buffer]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = places[tensor.buffer]


def _drop_inner_names(model: Any) -> None:
    """Drops all names but those of the signatures' inputs and outputs."""
    called = {signature.subgraphIndex for signature in model.signatureDefs}
    for number, graph in enumerate(model.subgraphs):
        graph.name = None
        ends = {*graph.inputs, *graph.outputs} if number in called else set()
        for i, tensor in enumerate(graph.tensors):
            if i not in ends:
                tensor.name = None


def _renumber_tensors(model: Any, number: int) -> None:
    """Numbers a subgraph's tensors as they are used, so that equal subgraphs look equal."""
    graph = model.subgraphs[number]
    used = [*graph.inputs]
    for operator in graph.operators:
        used += [*operator.inputs, *operator.outputs, *(operator.intermediates or [])]
    order = dict.fromkeys(int(i) for i in [*used, *graph.outputs] if i >= 0)
    place = {old: new for new, old in enumerate(order)}
    graph.tensors = [graph.tensors[old] for old in order]

    def renumbered(indices: Any) -> np.ndarray | None:
        if indices is None:
            return None
        return np.array([place[int(i)] if i >= 0 else i for i in indices], np.int32)

    graph.inputs, graph.outputs = renumbered(graph.inputs), renumbered(graph.outputs)
    for operator in graph.operators:
        operator.inputs = renumbered(operator.inputs)
        operator.outputs = renumbered(operator.outputs)
        operator.intermediates = renumbered(operator.intermediates)
    for signature in model.signatureDefs:
        if signature.subgraphIndex == number:
            for end in [*signature.inputs, *signature.outputs]:
                end.tensorIndex = place[end.tensorIndex]


def _once(table: Any, seen: dict[Any, Any]) -> Any:
    """Returns the first of equal tables, made to be written once, wherever it stands."""
    if table is None or "Pack" in vars(table):  # It has been here before.
        return table
    key = (type(table), *(_key(value) for value in vars(table).values()))
    if key not in seen:
        seen[key] = table
        table.Pack = _packing_once(table.Pack)
    return seen[key]


def _packing_once(pack: Callable[[Any], int]) -> Callable[[Any], int]:
    offsets: list[int] = []

    def pack_once(builder: Any) -> int:
        if not offsets:
            offsets.append(pack(builder))
        return offsets[0]

    return pack_once


def _key(value: Any) -> Any:
    """Makes a field comparable; tables below have been through `_once`: equal ones are the same."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if isinstance(value, list):
        return tuple(map(id, value))
    return id(value) if hasattr(value, "__dict__") else value
