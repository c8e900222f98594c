"""Keeps a fault of XNNPACK out of decoding (that of ai-edge-litert 2.3.0).

LiteRT hands what XNNPACK can run to it in partitions; an operation that XNNPACK lacks ends one. All
partitions work in one piece of memory, which moves when one of them needs more. XNNPACK then tells
the operations of the others anew where their inputs and outputs lie. A tensor that passes into or
out of a partition is LiteRT's, though, and at that time XNNPACK knows only where it was the last
time: in memory that LiteRT has given back since, and where the piece may lie now. A copy, as
RESHAPE is one, between this tensor and one in the piece then seems to be from a tensor to itself.
It is left out from then on, and decoding goes on with wrong numbers. So says XNNPACK's source; by
experiment a copy between two tensors of LiteRT may be left out as well.

A product is never left out. So one by 1 stands between such a copy and the partition's end. A model
whose layers of a step are one partition, the first, is left as it is: this one needs the most
memory, which does not move then.
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ktransformer.exporting.lite.graph_editor import (
    GraphEditor,
    is_constant,
    kind_of,
    loop_bodies,
    shape_of,
)

_Kind, _Type = schema.BuiltinOperator, schema.TensorType
_PRODUCTS = {_Kind.BATCH_MATMUL, _Kind.FULLY_CONNECTED}
_COPIES = {_Kind.CONCATENATION, _Kind.RESHAPE, _Kind.SPLIT}
# What XNNPACK runs of what is in a step.
_TAKEN = {
    *_PRODUCTS,
    *_COPIES,
    _Kind.ADD,
    _Kind.DIV,
    _Kind.LOG,
    _Kind.LOGISTIC,
    _Kind.MAXIMUM,
    _Kind.MEAN,
    _Kind.MINIMUM,
    _Kind.MUL,
    _Kind.NEG,
    _Kind.REDUCE_MAX,
    _Kind.RELU,
    _Kind.RSQRT,
    _Kind.SOFTMAX,
    _Kind.SQUARE,
    _Kind.SQUARED_DIFFERENCE,
    _Kind.STRIDED_SLICE,
    _Kind.SUB,
    _Kind.SUM,
    _Kind.TANH,
    _Kind.TRANSPOSE,
}


def guard_copies(model: Any) -> None:
    """Puts products by 1 between copies and the ends of their partitions.

    Args:
        model: The unpacked model; changed in place if it has a step of several partitions.
    """
    if any(has_parted_layers(model, graph) for graph in loop_bodies(model)):
        for graph in model.subgraphs:
            _multiply_ends(model, graph, find_copies_at_ends(model, graph))
            # What an earlier partition can multiply by a constant, it does.
            _multiply_ends(model, graph, find_copies_at_ends(model, graph), late=True)


def has_parted_layers(model: Any, graph: Any) -> bool:
    """Tells whether matrix products lie in several partitions."""
    parts = [
        any(kind_of(model, graph.operators[place]) in _PRODUCTS for place in partition)
        for partition in find_partitions(model, graph)
    ]
    return sum(parts) > 1


def find_copies_at_ends(model: Any, graph: Any) -> dict[int, set[int]]:
    """Finds the copies from or to a tensor of LiteRT.

    Returns:
        The place of each such operator in the subgraph, and which of its inputs and outputs are
        LiteRT's.
    """
    maker = {int(i): place for place, each in enumerate(graph.operators) for i in each.outputs}
    readers: dict[int, set[int]] = {int(i): {len(graph.operators)} for i in graph.outputs}
    for place, operator in enumerate(graph.operators):
        for i in map(int, operator.inputs):
            readers.setdefault(i, set()).add(place)
    found = {}
    for partition in find_partitions(model, graph):
        for place in partition:
            operator = graph.operators[place]
            if kind_of(model, operator) in _COPIES:
                inputs = {int(i) for i in operator.inputs if not is_constant(model, graph, i)}
                outputs = {int(i) for i in operator.outputs}
                outside = {i for i in inputs if maker.get(i) not in partition}
                outside |= {i for i in outputs if not readers.get(i, set()) <= partition}
                if outside:
                    found[place] = outside
    return found


def find_partitions(model: Any, graph: Any) -> list[set[int]]:
    """Returns the places of the operators of each of XNNPACK's partitions, as LiteRT finds them.

    Of the operators whose inputs are known it takes all that are of the first one's kind, XNNPACK's
    or not, until there is no more of them, and starts the next partition.
    """
    taken = [_is_taken(model, graph, operator) for operator in graph.operators]
    waiting = {
        place: operator
        for place, operator in enumerate(graph.operators)
        if not _is_constant_widened(model, graph, operator)
    }
    unknown = {int(i) for operator in waiting.values() for i in operator.outputs}
    partitions = []
    while waiting:
        partition: set[int] = set()
        kind, found = None, True
        while found:
            found = False
            for place, operator in list(waiting.items()):
                if kind in (None, taken[place]) and unknown.isdisjoint(map(int, operator.inputs)):
                    kind, found = taken[place], True
                    partition.add(place)
                    unknown.difference_update(map(int, operator.outputs))
                    del waiting[place]
        if kind:
            partitions.append(partition)
    return partitions


def _is_taken(model: Any, graph: Any, operator: Any) -> bool:
    """Tells whether XNNPACK runs an operator."""
    kind = kind_of(model, operator)
    if kind not in _TAKEN or not _is_float(graph, operator.outputs[0]):
        return False
    if kind == _Kind.RESHAPE and not is_constant(model, graph, operator.inputs[1]):
        return False
    options = operator.builtinOptions
    return kind != _Kind.STRIDED_SLICE or not (options.shrinkAxisMask or options.newAxisMask)


def _is_constant_widened(model: Any, graph: Any, operator: Any) -> bool:
    """Tells whether an operator makes float32 of a constant, which XNNPACK does for itself."""
    is_widening = kind_of(model, operator) == _Kind.DEQUANTIZE
    return is_widening and is_constant(model, graph, operator.inputs[0])


def _multiply_ends(
    model: Any, graph: Any, ends: dict[int, set[int]], *, late: bool = False
) -> None:
    """Lets each operator work on other tensors than `ends`, which are 1 times as much.

    `late` takes the 1 from another input of the operator: then no earlier partition has it.
    """
    operators, graph.operators = graph.operators, []
    editor = _Operators(model, graph)
    one = editor.add_constant(np.float32(1)) if ends else -1
    for place, operator in enumerate(operators):
        if place not in ends:
            graph.operators.append(operator)
            continue
        given, made = set(map(int, operator.inputs)), set(map(int, operator.outputs))
        within = [i for i in sorted(given - ends[place]) if not is_constant(model, graph, i)]
        factor = editor.add_one_of(within[0], one) if late and within else one
        inner = {i: editor.add_tensor(shape_of(graph.tensors[i])) for i in ends[place]}
        for i in inner.keys() & given:
            editor.multiply(i, factor, inner[i])
        graph.operators.append(operator)
        for i in inner.keys() & made:
            editor.multiply(inner[i], one, i)
        for name in ("inputs", "outputs"):
            changed = [inner.get(int(i), i) for i in getattr(operator, name)]
            setattr(operator, name, np.array(changed, np.int32))


class _Operators(GraphEditor):
    def multiply(self, tensor: int, factor: int, product: int) -> None:
        """Appends a product."""
        self.add_into(product, _Kind.MUL, [tensor, factor], schema.MulOptionsT())

    def add_one_of(self, tensor: int, one: int) -> int:
        """Appends what makes a 1 of a tensor's first value: at least 1, and at most 1."""
        rank = len(shape_of(self.graph.tensors[tensor]))
        bounds = [self.add_constant(np.full(rank, n, np.int32)) for n in (0, 1, 1)]
        first, raised, made = (self.add_tensor([1] * rank) for _ in range(3))
        options = schema.StridedSliceOptionsT()
        self.add_into(first, _Kind.STRIDED_SLICE, [tensor, *bounds], options)
        bound = schema.MaximumMinimumOptionsT()
        self.add_into(raised, _Kind.MAXIMUM, [first, one], bound)
        self.add_into(made, _Kind.MINIMUM, [raised, one], bound)
        return made


def _is_float(graph: Any, tensor: int) -> bool:
    is_float: bool = graph.tensors[tensor].type == _Type.FLOAT32
    return is_float
