"""Keeps the small operations of a SavedModel from oneDNN.

Where TensorFlow has oneDNN (on x86), it gives it matrix products and transpositions when it loads a
graph, whatever their size. For the few numbers of a decoding step these take several times as long
as TensorFlow's own. oneDNN has none for a `BatchMatMulV3` or for integers. Products outside of
loops stay oneDNN's: those of an encoder may be large, and there it is the faster one.
"""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import function_pb2, node_def_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import fingerprinting_utils

from ktransformer.errors import InputError, first_line
from ktransformer.exporting.saved_model.operations import called

_HEADS = [0, 2, 1, 3]  # `[B, T, H, D/H]` from and to `[B, H, T, D/H]`.
_MATRICES = [0, 1, 3, 2]  # `[B, H, S, D/H]` from and to `[B, H, D/H, S]`.
_FLOAT, _INT = types_pb2.DT_FLOAT, types_pb2.DT_INT32
_Nodes = Mapping[str, node_def_pb2.NodeDef]  # By their names.


def keep_from_onednn(folder: Path, graph_name: str) -> None:
    """Rewrites the products in a SavedModel's loops, and what transposes heads, in place.

    Outputs are the same within rounding. Gradients no longer go through a transposition.

    Args:
        folder: The SavedModel's.
        graph_name: The name of the file of its graph.

    Raises:
        InputError: The file system refuses.
    """
    path = folder / graph_name
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        functions = graph.graph_def.library.function
        looped = _find_looped({each.signature.name: each for each in functions})
        for function in functions:
            _rewrite(function, products=function.signature.name in looped)
        operations = graph.meta_info_def.stripped_op_list.op
        missing = {"BatchMatMulV3", "Bitcast"} - {operation.name for operation in operations}
        operations.extend(op_def_registry.get(name) for name in sorted(missing))
    try:
        path.write_bytes(saved.SerializeToString(deterministic=True))
        fingerprinting_utils.write_fingerprint(str(folder))
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"Cannot write {folder}: {first_line(error)}") from error


def _find_looped(functions: Mapping[str, function_pb2.FunctionDef]) -> set[str]:
    """Returns the names of the functions that a loop runs at each step, directly or not."""
    looped: set[str] = set()
    waiting = [
        node.attr["body"].func.name
        for function in functions.values()
        for node in function.node_def
        if node.op in ("While", "StatelessWhile")
    ]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in looped:
            looped.add(name)
            waiting += (each for node in functions[name].node_def for each in called(node))
    return looped


def _rewrite(function: function_pb2.FunctionDef, *, products: bool) -> None:
    nodes = {node.name: node for node in function.node_def}
    added: list[node_def_pb2.NodeDef] = []
    renamed: dict[str, str] = {}
    for node in list(function.node_def):
        if products and node.op == "BatchMatMulV2" and node.attr["T"].type == _FLOAT:
            _take_third_version(node, nodes)
        elif _permutes(node, nodes, _HEADS):
            added += _transpose_as_integers(node)
            renamed[f"{node.name}:y:0"] = f"{node.name}:output:0"
    function.node_def.extend(added)
    for node in function.node_def:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for output, name in function.ret.items():
        function.ret[output] = renamed.get(name, name)


def _take_third_version(node: node_def_pb2.NodeDef, nodes: _Nodes) -> None:
    """Makes a `BatchMatMulV2` a `BatchMatMulV3` that transposes its right side itself.

    TensorFlow's optimizer does that for a `BatchMatMulV2` and not for a `BatchMatMulV3`.
    """
    node.op = "BatchMatMulV3"
    del node.attr["T"]
    for name in ("Ta", "Tb", "Tout"):
        node.attr[name].type = _FLOAT
    while (right := nodes.get(_maker(node.input[1]))) and _permutes(right, nodes, _MATRICES):
        node.input[1] = right.input[0]
        node.attr["adj_y"].b = not node.attr["adj_y"].b


def _permutes(node: node_def_pb2.NodeDef, nodes: _Nodes, order: list[int]) -> bool:
    """Tells whether a node puts the axes of float32 numbers into a constant order."""
    if node.op != "Transpose" or node.attr["T"].type != _FLOAT:
        return False
    given = nodes.get(_maker(node.input[1]))
    if given is None or given.op != "Const":
        return False
    return bool(tf.make_ndarray(given.attr["value"].tensor).tolist() == order)


def _maker(tensor: str) -> str:
    """Returns the name of the node that makes a tensor, called `NODE:OUTPUT:INDEX`."""
    return tensor.split(":")[0]


def _transpose_as_integers(node: node_def_pb2.NodeDef) -> list[node_def_pb2.NodeDef]:
    """Makes a transposition one of the numbers' bits; returns the two nodes that come before."""
    values, order, *controls = node.input
    transposed = node_def_pb2.NodeDef()
    transposed.CopyFrom(node)
    transposed.name = f"{node.name}/of_bits"
    transposed.attr["T"].type = _INT
    bits = _bitcast(f"{node.name}/bits", values, _FLOAT, _INT)
    transposed.input[:] = [f"{bits.name}:output:0", order, *controls]
    node.CopyFrom(_bitcast(node.name, f"{transposed.name}:y:0", _INT, _FLOAT))
    return [bits, transposed]


def _bitcast(name: str, values: str, before: int, after: int) -> node_def_pb2.NodeDef:
    node = node_def_pb2.NodeDef(name=name, op="Bitcast", input=[values])
    node.attr["T"].type, node.attr["type"].type = before, after
    return node
