"""The multiply-adds of an encoder block and of its parts: in the graph, and on paper."""

from typing import Any

import keras
import tensorflow as tf

from ktransformer.layers import EncoderBlock, KeySpan, MultiHeadSelfAttention, Positions

PARTS = ("whole", "rest", "looking")
"""A block, the block without comparing positions, and that comparing alone."""


class NotLooking(MultiHeadSelfAttention):
    """Each position keeps its own value: what is left are the projections."""

    def attend(self, query: Any, spans: Any, training: bool | None = None) -> Any:
        """Returns the values."""
        return spans[0].value


class NotLookingBlock(EncoderBlock):
    """A block without the part that compares positions: all of it is n d^2."""

    def make_self_attention(self) -> keras.layers.Layer:
        """Creates the attention that does not look."""
        return NotLooking(self.num_heads)


def block_parts(width: int, num_heads: int) -> dict[str, Any]:
    """Returns, by name, what is compared: compiled functions of inputs `[1, n, d]`."""
    whole = EncoderBlock(num_heads, 4 * width)
    rest = NotLookingBlock(num_heads, 4 * width)
    for block in (whole, rest):
        block.build((None, None, width))
    attention = whole.self_attention

    def looking(inputs: Any) -> Any:
        heads = tf.reshape(inputs, (1, num_heads, -1, width // num_heads))
        positions = Positions.from_start(tf.shape(heads)[2], tf.shape(heads)[2])
        return attention.attend(heads, [KeySpan(heads, heads, positions)])

    return {
        "whole": tf.function(lambda inputs: whole(inputs)),
        "rest": tf.function(lambda inputs: rest(inputs)),
        "looking": tf.function(looking),
    }


def multiply_adds(function: Any, spec: tf.TensorSpec) -> int:
    """Counts the multiply-adds of the matrix products in the graph.

    TensorFlow's profiler counts a multiplication and an addition as two.
    """
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    graph = function.get_concrete_function(spec).graph
    total, waiting = 0, [profiler.profile(graph, options=options, cmd="op")]
    while waiting:
        node = waiting.pop()
        waiting += node.children
        if node.name in ("MatMul", "BatchMatMulV2"):
            total += node.float_ops
    return total // 2


def formula(width: int, length: int) -> dict[str, int]:
    """Counts the multiply-adds of a block on paper.

    Scores and sums: n^2 d each. Query, key, value and output: d^2 each, at n positions. The
    feed-forward network: 4 d^2, twice.
    """
    looking, rest = 2 * length**2 * width, 12 * length * width**2
    return {"whole": looking + rest, "rest": rest, "looking": looking}
