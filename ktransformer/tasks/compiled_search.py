"""Searches that XLA compiles for a few shapes, to which sources are padded."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from ktransformer.config import CompilationConfig
from ktransformer.decoding import Hypotheses
from ktransformer.errors import first_line
from ktransformer.tasks.graph_function import graph_function

_SOURCE = tf.TensorSpec([None, None], tf.int32, "source")
_HYPOTHESES = Hypotheses(
    ids=tf.TensorSpec([None, None, None], tf.int32),
    scores=tf.TensorSpec([None, None], tf.float32),
    lengths=tf.TensorSpec([None, None], tf.int32),
    log_probabilities=tf.TensorSpec([None, None], tf.float32),
)

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

    Within a program no sentence leaves before the last one ends, and all are padded to the longest:
    hence the parts of like length.

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
    in_shape = graph_function(compiled, input_signature=[_SOURCE], jit_compile=True)
    sizes: Any = shapes.batch_sizes
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.
    lengths = tf.reduce_max(tf.where(source != pad_id, _places(source), 0), axis=1)
    length = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
    rows = tf.shape(source)[0]

    def search(source: tf.Tensor, length: tf.Tensor, missing: tf.Tensor | int) -> Hypotheses:
        paddings = [[0, missing], [0, _least(shapes.lengths, length) - length]]
        return in_shape(tf.pad(source[:, :length], paddings, constant_values=pad_id))

    def search_whole() -> Hypotheses:
        best = search(source, length, _least(sizes, rows) - rows)
        best = tf.nest.map_structure(lambda each: each[:rows], best)
        return best._replace(ids=best.ids[:, :, :longest])

    def search_parts() -> Hypotheses:
        lanes = shapes.parts
        turns = tf.maximum(-(-rows // (lanes * max(sizes))), 1)
        size = _least(sizes, -(-rows // (lanes * turns)))
        order = tf.argsort(lengths, stable=True)
        missing = turns * lanes * size - rows
        padded = tf.pad(tf.gather(source, order), [[missing, 0], [0, 0]], constant_values=pad_id)
        parts = tf.reshape(padded, [turns, lanes, size, tf.shape(source)[1]])

        def search_part(part: tf.Tensor) -> Hypotheses:
            length = tf.reduce_max(tf.where(part != pad_id, _places(part), 0))
            best = search(part, length, 0)
            return best._replace(ids=_with_length(best.ids, longest, pad_id))

        def take_turns(lane: tf.Tensor) -> Hypotheses:
            return tf.cond(
                turns == 1,
                lambda: tf.nest.map_structure(lambda each: each[None], search_part(lane[0])),
                lambda: tf.map_fn(search_part, lane, fn_output_signature=_HYPOTHESES),
            )

        # What does not depend on each other runs side by side; the turns of a lane do not.
        found = [take_turns(parts[:, lane]) for lane in range(lanes)]
        best = tf.nest.map_structure(lambda *each: _joined(tf.stack(each, axis=1)), *found)
        back = missing + tf.argsort(order)
        return tf.nest.map_structure(lambda each: tf.gather(each, back), best)

    is_whole = (rows < shapes.LEAST_SPLIT) & (rows <= max(sizes))
    return tf.cond(
        length <= max(shapes.lengths),
        lambda: tf.cond(is_whole, search_whole, search_parts),
        lambda: plain(source[:, :length]),
    )


def _places(ids: tf.Tensor) -> tf.Tensor:
    """Returns 1, 2, ... along the last axis."""
    return tf.range(tf.shape(ids)[-1]) + 1


def _with_length(ids: tf.Tensor, length: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Cuts or pads ids along the last axis."""
    missing = tf.maximum(length - tf.shape(ids)[-1], 0)
    paddings = [[0, 0]] * (ids.shape.rank - 1) + [[0, missing]]
    return tf.pad(ids, paddings, constant_values=pad_id)[..., :length]


def _joined(tensor: tf.Tensor) -> tf.Tensor:
    """Joins the first three axes: `[turns, lanes, B, ...] -> [turns * lanes * B, ...]`."""
    return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[3:]], axis=0))


def _least(sizes: Sequence[int], size: tf.Tensor) -> tf.Tensor:
    """Returns the least of `sizes` that is at least `size`, which the greatest must be."""
    return tf.reduce_min(tf.where(tf.constant(sizes) >= size, sizes, max(sizes)))


def why_not_compiled(error: tf.errors.OpError) -> str:
    """Returns one sentence about XLA's error, which names operations between traces of stacks."""
    names = re.findall(r"No registered '(\w+)' OpKernel", str(error))
    reason = f"it has no {', '.join(dict.fromkeys(names))}" if names else first_line(error)
    return f"XLA cannot compile the search: {reason}."
