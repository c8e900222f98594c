"""Checks the operations of a SavedModel, which is a program, before it is opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from ktransformer.errors import InputError

# Beside these, all pure functions of numbers are allowed. These call functions of the same file,
# hold weights, lists and chance, handle text and images, or join requests.
_OPERATIONS = """
    Case If PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile While
    AssignVariableOp DisableCopyOnRead ReadVariableOp ResourceGather VarHandleOp VarIsInitializedOp
    EmptyTensorList TensorListConcatV2 TensorListFromTensor TensorListGather TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
    TensorListSetItem TensorListStack
    Assert Einsum IdentityN NoOp Placeholder ScatterNd TensorScatterUpdate
    Multinomial RandomStandardNormal RandomUniform RandomUniformInt TruncatedNormal
    StaticRegexFullMatch StringJoin
    TFText>ByteSplitByOffsets TFText>ByteSplitWithOffsets TFText>NgramsStringJoin
    SentencepieceDetokenizeOp SentencepieceOp SentencepieceTokenizeOp
    TFText>FastSentencepieceDetokenize TFText>FastSentencepieceTokenize
    FastBertNormalize FastWordpieceTokenizeWithOffsets
    TFText>FastWordpieceDetokenize TFText>WhitespaceTokenizeWithOffsetsV2
    DecodeImage DecodeJpeg ScaleAndTranslate Substr
    BatchFunction
"""
_ALLOWED = frozenset(_OPERATIONS.split())
# Those with which TensorFlow saves and restores variables: in every SavedModel, never called by a
# signature of ours.
_SAVING = frozenset(("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"))
_OPAQUE = (types_pb2.DT_STRING, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
_FREE_ATTRIBUTES = ("string", "list(string)", "func", "list(func)", "list(type)")


def check_operations(path: Path) -> None:
    """Refuses a SavedModel that could do more than compute, before anything of it is run.

    Allowed are the operations of our own exports and every pure function of numbers that
    TensorFlow has. None of them opens a file or a connection.

    Args:
        path: The file `saved_model.pb`.

    Raises:
        InputError: It is damaged, or has another operation.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (DecodeError, RecursionError) as error:
        raise InputError(f"{path} does not hold a whole SavedModel: {error}") from error
    for graph in saved.meta_graphs:
        unknown = _unknown_operations(graph)
        if unknown:
            raise InputError(
                f"{path} is not opened: it has operations that no export of ktransformer has "
                f"({', '.join(sorted(unknown))}), and a SavedModel is a program that may do harm."
            )


def _unknown_operations(graph: Any) -> set[str]:
    """Returns the operations that are not allowed, or not where they stand."""
    saver = graph.saver_def
    own = {name.split(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name)}
    # Functions that others than the saver can reach, and the graph itself.
    exposed = {"", *graph.object_graph_def.concrete_functions}
    operations: dict[str, set[str]] = {}
    for place, node in _nodes(graph):
        operations.setdefault(node.op, set()).add(place)
        if node.op in _ALLOWED and (place or node.name not in own):
            exposed.update(called(node))  # A pure operation calls none of its functions.
    return {
        name
        for name, places in operations.items()
        if (places & exposed if name in _SAVING else not (name in _ALLOWED or _is_pure(name)))
    }


def _nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yields every node with the name of the function that it stands in, "" for the graph."""
    for node in graph.graph_def.node:
        yield "", node
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def _is_pure(name: str) -> bool:
    """Tells whether an operation only computes: nothing kept, no text, no function, no name."""
    operation = op_def_registry.get(name)
    if operation is None or operation.is_stateful:
        return False
    arguments = [*operation.input_arg, *operation.output_arg]
    return not any(argument.type in _OPAQUE for argument in arguments) and not any(
        attribute.type in _FREE_ATTRIBUTES and not attribute.HasField("allowed_values")
        for attribute in operation.attr
    )


def called(node: Any) -> Iterator[str]:
    """Yields the functions that a node calls."""
    for attribute in node.attr.values():
        yield attribute.func.name
        yield from (function.name for function in attribute.list.func)
