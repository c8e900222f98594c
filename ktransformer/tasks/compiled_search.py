"""Searches that XLA compiles for a few shapes, to which sources are padded."""

import re
from collections.abc import Callable, Sequence

import tensorflow as tf

from ktransformer.config import CompilationConfig
from ktransformer.decoding import Hypotheses
from ktransformer.errors import first_line
from ktransformer.tasks.graph_function import graph_function

_SOURCE = tf.TensorSpec([None, None], tf.int32, "source")

Search = Callable[[tf.Tensor], Hypotheses]


def search_in_shapes(
    source: tf.Tensor,
    shapes: CompilationConfig,
    *,
    compiled: Search,
    plain: Search,
    limits: tf.Tensor,
    pad_id: int,
) -> Hypotheses:
    """Searches in the smallest of a few shapes that has room; TensorFlow compiles each once.

    Args:
        source: Int32 `[B, S]`.
        shapes: The shapes.
        compiled: The search in a shape, which XLA must be able to compile. Rows of padding are
            among its sources.
        plain: The search where no shape has room.
        limits: Int32 `[B]`, the most tokens of each target.
        pad_id: Pads the sources.

    Returns:
        The hypotheses of the B sources.
    """
    is_token = source != pad_id
    source = source[:, : tf.reduce_max(tf.where(is_token, tf.range(tf.shape(source)[1]) + 1, 0))]
    in_shape = graph_function(compiled, input_signature=[_SOURCE], jit_compile=True)
    rows, length = tf.unstack(tf.shape(source))
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.

    def search(parts: int) -> Hypotheses:
        size = _least(shapes.batch_sizes, -(-rows // parts))
        padding = [[0, parts * size - rows], [0, _least(shapes.lengths, length) - length]]
        padded = tf.pad(source, padding, constant_values=pad_id)
        # Calls that do not depend on each other run side by side.
        found = [in_shape(part) for part in tf.split(padded, parts)]
        best = tf.nest.map_structure(lambda *each: tf.concat(each, axis=0)[:rows], *found)
        return best._replace(ids=best.ids[:, :, :longest])

    most = max(shapes.batch_sizes)
    fits = (rows <= shapes.parts * most) & (length <= max(shapes.lengths))
    whole = (rows < shapes.LEAST_SPLIT) & (rows <= most)
    return tf.cond(
        fits,
        lambda: tf.cond(whole, lambda: search(1), lambda: search(shapes.parts)),
        lambda: plain(source),
    )


def _least(sizes: Sequence[int], size: tf.Tensor) -> tf.Tensor:
    """Returns the least of `sizes` that is at least `size`, which the greatest must be."""
    return tf.reduce_min(tf.where(tf.constant(sizes) >= size, sizes, max(sizes)))


def why_not_compiled(error: tf.errors.OpError) -> str:
    """Returns one sentence about XLA's error, which names operations between traces of stacks."""
    names = re.findall(r"No registered '(\w+)' OpKernel", str(error))
    reason = f"it has no {', '.join(dict.fromkeys(names))}" if names else first_line(error)
    return f"XLA cannot compile the search: {reason}."
