"""The multiply-adds of an encoder block and of its parts: counted in the graph, and by formula."""

from typing import Any

import keras
import tensorflow as tf

from ktransformer.layers import EncoderBlock, KeySpan, MultiHeadSelfAttention, Positions

PARTS = ("whole", "rest", "attention")
"""A block; the block without scores and weighted sums; and scores and weighted sums alone."""


class ValueOnlyAttention(MultiHeadSelfAttention):
    """Self-attention without scores: the output of a position is its own value, projected."""

    def attend(self, query: Any, spans: Any, training: bool | None = None) -> Any:
        """Returns the values."""
        return spans[0].value


class ValueOnlyBlock(EncoderBlock):
    """A block without scores and weighted sums: its cost is proportional to n d^2."""

    def make_self_attention(self) -> keras.layers.Layer:
        """Creates self-attention without scores."""
        return ValueOnlyAttention(self.num_heads)


def block_parts(width: int, num_heads: int) -> dict[str, Any]:
    """Returns each of `PARTS` as a compiled function of inputs `[1, n, d]`."""
    whole = EncoderBlock(num_heads, 4 * width)
    rest = ValueOnlyBlock(num_heads, 4 * width)
    for block in (whole, rest):
        block.build((None, None, width))
    layer = whole.self_attention

    def attention(inputs: Any) -> Any:
        heads = tf.reshape(inputs, (1, num_heads, -1, width // num_heads))
        positions = Positions.from_start(tf.shape(heads)[2], tf.shape(heads)[2])
        return layer.attend(heads, [KeySpan(heads, heads, positions)])

    return {
        "whole": tf.function(lambda inputs: whole(inputs)),
        "rest": tf.function(lambda inputs: rest(inputs)),
        "attention": tf.function(attention),
    }


def multiply_adds(function: Any, spec: tf.TensorSpec) -> int:
    """Counts the multiply-adds of the matrix products in a graph.

    TensorFlow's profiler counts a multiplication and an addition as two operations.
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
    """Returns the multiply-adds of `PARTS` by formula.

    Scores and weighted sums: n^2 d each. Projections of query, key, value and output: n d^2 each.
    The two layers of the feed-forward network: 4 n d^2 each.
    """
    attention, rest = 2 * length**2 * width, 12 * length * width**2
    return {"whole": attention + rest, "rest": rest, "attention": attention}
