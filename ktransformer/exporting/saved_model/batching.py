"""Concurrent requests that are run as one batch, inside the graph."""

import uuid
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ktransformer.config import BatchingConfig
from ktransformer.tasks.graph_function import graph_function
from ktransformer.tasks.inputs import UNBATCHED

_ANY_NUMBER = 2**30  # Of texts in one request: it is cut into batches and put together again.
_QUEUED_BATCHES = 100_000  # Whoever serves bounds its callers; a full queue would be an error.


def takes_texts_alone(function: Any) -> bool:
    """Tells whether every input of a `tf.function` with an input signature is strings `[B]`."""
    return all(is_texts(spec) for spec in function.input_signature)


def is_texts(spec: tf.TensorSpec) -> bool:
    """Tells whether an input is strings `[B]`."""
    of_examples = spec.name not in UNBATCHED
    return bool(of_examples and spec.dtype == tf.string and spec.shape.rank == 1)


def _with_shape(output: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Gives an output its shape: of an empty request TensorFlow always returns `[0]`."""
    if shape[1:].is_fully_defined():
        output = tf.reshape(output, tf.concat([tf.shape(output)[:1], shape[1:]], axis=0))
    return tf.ensure_shape(output, shape)


def join_requests(function: Any, batching: BatchingConfig) -> Callable[..., Any]:
    """Makes a signature that runs concurrent calls of a function as one.

    Args:
        function: A `tf.function` with an input signature, of tensors `[B, ...]` to a structure of
            tensors `[B, ...]`, of which no row depends on another: with a shortlist one does.
        batching: How calls are joined.

    Returns:
        A `tf.function` with the same input signature and the same outputs.
    """
    shapes = tf.nest.map_structure(
        lambda output: output.shape, function.get_concrete_function().structured_outputs
    )
    # TensorFlow tells queues apart by the scope alone, all over a process: two signatures, or two
    # exports, in scopes of one name would be answered by each other's graph.
    scope = f"batching_{uuid.uuid4().hex}"
    joined = tf.nondifferentiable_batch_function(
        num_batch_threads=batching.threads,
        max_batch_size=_ANY_NUMBER,
        batch_timeout_micros=round(batching.timeout_ms * 1000),
        # Every size: no row is computed to pad a batch.
        allowed_batch_sizes=list(range(1, batching.max_texts + 1)),
        max_enqueued_batches=_QUEUED_BATCHES,
        autograph=False,
    )(function)

    @graph_function(input_signature=function.input_signature)
    def call(*inputs: tf.Tensor) -> Any:
        with tf.name_scope(scope):
            outputs = joined(*inputs)
        return tf.nest.map_structure(_with_shape, outputs, shapes)

    return call
