"""Searches that XLA compiles for a few shapes, to which sources are padded."""

import re
from collections.abc import Callable, Sequence

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


def compile_search(search: Search) -> Search:
    """Makes a search of source ids `[B, S]` one that XLA compiles, once for each B and S."""
    compiled: Search = graph_function(search, input_signature=[_SOURCE], jit_compile=True)
    return compiled


def search_in_shapes(
    source: tf.Tensor,
    shapes: CompilationConfig,
    *,
    compiled: Search,
    plain: Search,
    limits: tf.Tensor,
    pad_id: int,
) -> Hypotheses:
    """Runs a search that XLA compiles, in a few shapes to which its sources are padded.

    A program runs until its slowest sentence ends. So a batch of `LEAST_SPLIT` sources or more is
    sorted by length and split into parts, `shapes.parts` of which run at a time.

    Args:
        source: Int32 `[B, S]`.
        shapes: The shapes, of which none is left open.
        compiled: The search in a shape. Rows of padding are among its sources.
        plain: The search of a batch with a source that is too long for the shapes.
        limits: Int32 `[B]`, the most tokens of each target.
        pad_id: Pads the sources.

    Returns:
        The hypotheses of the B sources.
    """
    in_shape = compile_search(compiled)
    sizes, lanes = shapes.sizes, shapes.parts
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.
    lengths = _lengths(source, pad_id)
    length = _greatest(lengths)
    rows = tf.shape(source)[0]

    def search(source: tf.Tensor, length: tf.Tensor, missing: tf.Tensor | int) -> Hypotheses:
        paddings = [[0, missing], [0, _least(shapes.lengths, length) - length]]
        return in_shape(tf.pad(source[:, :length], paddings, constant_values=pad_id))

    def search_whole() -> Hypotheses:
        best = search(source, length, _least(sizes, rows) - rows)
        best = tf.nest.map_structure(lambda each: each[:rows], best)
        return best._replace(ids=best.ids[:, :, :longest])

    def search_part(part: tf.Tensor) -> Hypotheses:
        best = search(part, _greatest(_lengths(part, pad_id)), 0)
        return best._replace(ids=_with_length(best.ids, longest, pad_id))

    def search_one_by_one(parts: tf.Tensor) -> Hypotheses:
        def search_only() -> Hypotheses:  # Without a loop, whose operations cost time, too.
            return tf.nest.map_structure(lambda each: each[None], search_part(parts[0]))

        return tf.cond(
            tf.shape(parts)[0] == 1,
            search_only,
            lambda: tf.map_fn(
                search_part, parts, fn_output_signature=_HYPOTHESES, parallel_iterations=1
            ),
        )

    def search_parts() -> Hypotheses:
        count, size = split(rows, sizes, lanes)
        order = tf.argsort(lengths, stable=True)
        missing = count * size - rows
        padded = tf.pad(tf.gather(source, order), [[missing, 0], [0, 0]], constant_values=pad_id)
        parts = tf.reshape(padded, [count, size, tf.shape(source)[1]])
        # Lanes run concurrently; the parts of a lane, every so many-th, run one after another.
        found = [search_one_by_one(parts[lane::lanes]) for lane in range(lanes)]
        taken = tf.concat([tf.range(count)[lane::lanes] for lane in range(lanes)], axis=0)
        places = tf.reshape(taken[:, None] * size + tf.range(size), [-1])
        back = tf.gather(tf.argsort(places), missing + tf.argsort(order))
        return tf.nest.map_structure(
            lambda *each: tf.gather(_joined(tf.concat(each, axis=0)), back), *found
        )

    is_whole = (rows < shapes.LEAST_SPLIT) & (rows <= max(sizes))
    return tf.cond(
        length <= max(shapes.lengths),
        lambda: tf.cond(is_whole, search_whole, search_parts),
        lambda: plain(source[:, :length]),
    )


def split(rows: tf.Tensor, sizes: Sequence[int], lanes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits a batch into parts for lanes that run at the same time.

    Args:
        rows: Int32 scalar, the sources of the batch.
        sizes: The sizes that a part may have, ascending.
        lanes: How many parts run at a time.

    Returns:
        The number of parts, at least one a lane, and their size, which is one of `sizes`.
    """
    turns = tf.maximum(-(-rows // (lanes * max(sizes))), 1)
    size = _least(sizes, -(-rows // (lanes * turns)))
    return tf.maximum(-(-rows // size), lanes), size


def _lengths(source: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Returns the tokens of each source up to the last one that is no padding: `[B]`."""
    places = tf.range(tf.shape(source)[1]) + 1
    return tf.maximum(tf.reduce_max(tf.where(source != pad_id, places, 0), axis=1), 0)


def _greatest(lengths: tf.Tensor) -> tf.Tensor:
    """Returns the greatest length; 0 of none."""
    return tf.reduce_max(tf.concat([lengths, [0]], axis=0))


def _with_length(ids: tf.Tensor, length: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Cuts or pads ids along the last axis."""
    missing = tf.maximum(length - tf.shape(ids)[-1], 0)
    paddings = [[0, 0]] * (ids.shape.rank - 1) + [[0, missing]]
    return tf.pad(ids, paddings, constant_values=pad_id)[..., :length]


def _joined(tensor: tf.Tensor) -> tf.Tensor:
    """Joins the first two axes: `[parts, B, ...] -> [parts * B, ...]`."""
    return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], axis=0))


def _least(sizes: Sequence[int], size: tf.Tensor) -> tf.Tensor:
    """Returns the least of `sizes` that is at least `size`, which the greatest must be."""
    return tf.reduce_min(tf.where(tf.constant(sizes) >= size, sizes, max(sizes)))


def why_not_compiled(error: tf.errors.OpError) -> str:
    """Returns one sentence about XLA's error, which names operations between traces of stacks."""
    names = re.findall(r"No registered '(\w+)' OpKernel", str(error))
    reason = f"it has no {', '.join(dict.fromkeys(names))}" if names else first_line(error)
    return f"XLA cannot compile the search: {reason}."
