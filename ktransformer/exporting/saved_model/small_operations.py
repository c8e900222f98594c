"""Keeps the small operations of a SavedModel from oneDNN.

Where TensorFlow has oneDNN (on x86), it gives it matrix products and transpositions when it loads a
graph, whatever their size. For the few numbers of a decoding step these take several times as long
as TensorFlow's own. oneDNN has none for a `BatchMatMulV3` or for integers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorflow import make_ndarray
from tensorflow.core.framework import function_pb2, node_def_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import fingerprinting_utils

_HEADS = [0, 2, 1, 3]  # `[B, T, H, D/H]` from and to `[B, H, T, D/H]`.
_FLOAT, _INT = types_pb2.DT_FLOAT, types_pb2.DT_INT32


def keep_from_onednn(folder: Path, graph_name: str) -> None:
    """Rewrites a SavedModel's products of heads, and what transposes heads, in place.

    Outputs are the same within rounding. Gradients no longer go through a transposition.

    Args:
        folder: The SavedModel's.
        graph_name: The name of the file of its graph.
    """
    path = folder / graph_name
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            _rewrite(function)
        operations = graph.meta_info_def.stripped_op_list.op
        missing = {"BatchMatMulV3", "Bitcast"} - {operation.name for operation in operations}
        operations.extend(op_def_registry.get(name) for name in sorted(missing))
    path.write_bytes(saved.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(folder))


def _rewrite(function: function_pb2.FunctionDef) -> None:
    constants = {node.name: node for node in function.node_def if node.op == "Const"}
    added: list[node_def_pb2.NodeDef] = []
    renamed: dict[str, str] = {}
    for node in function.node_def:
        if node.op == "BatchMatMulV2" and node.attr["T"].type == _FLOAT:
            node.op = "BatchMatMulV3"
            del node.attr["T"]
            for name in ("Ta", "Tb", "Tout"):
                node.attr[name].type = _FLOAT
        elif _transposes_heads(node, constants):
            added += _transpose_as_integers(node)
            renamed[f"{node.name}:y:0"] = f"{node.name}:output:0"
    for node in function.node_def:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for output, name in function.ret.items():
        function.ret[output] = renamed.get(name, name)
    function.node_def.extend(added)


def _transposes_heads(node: node_def_pb2.NodeDef, constants: Mapping[str, Any]) -> bool:
    """Tells whether it exchanges the two axes that a transposed key, say, does not."""
    if node.op != "Transpose" or node.attr["T"].type != _FLOAT:
        return False
    order = constants.get(node.input[1].split(":")[0])
    return order is not None and make_ndarray(order.attr["value"].tensor).tolist() == _HEADS


def _transpose_as_integers(node: node_def_pb2.NodeDef) -> list[node_def_pb2.NodeDef]:
    """Makes a transposition one of the numbers' bits; returns the two nodes that come before."""
    values, order = node.input[:2]
    transposed = node_def_pb2.NodeDef()
    transposed.CopyFrom(node)
    transposed.name = f"{node.name}/of_bits"
    transposed.attr["T"].type = _INT
    bits = _bitcast(f"{node.name}/bits", values, _FLOAT, _INT)
    transposed.input[:] = [f"{bits.name}:output:0", order]
    node.CopyFrom(_bitcast(node.name, f"{transposed.name}:y:0", _INT, _FLOAT))
    return [bits, transposed]


def _bitcast(name: str, values: str, before: int, after: int) -> node_def_pb2.NodeDef:
    node = node_def_pb2.NodeDef(name=name, op="Bitcast", input=[values])
    node.attr["T"].type, node.attr["type"].type = before, after
    return node
