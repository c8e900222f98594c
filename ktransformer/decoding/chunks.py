"""The loop around every search: a few steps, then the sentences that are done are dropped."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ktransformer.decoding.search_model import SearchModel

# Takes the position, what is known of the sentences and the model's state; returns the next two.
Advance = Callable[[tf.Tensor, Any, Any], tuple[Any, Any]]


def search_in_chunks(model: SearchModel, beam_size: int, sentences: Any, advance: Advance) -> Any:
    """Advances until all sentences are done.

    Between two chunks of steps the sentences that are done leave the batch, so that they cost
    nothing any more, and the model settles its state.

    Args:
        model: What predicts.
        beam_size: K, the hypotheses of each sentence.
        sentences: A named tuple of tensors whose first axis is B, among them `done`, boolean `[B]`.
        advance: One step of the search.

    Returns:
        `sentences` when all are done, in the order they came in.
    """
    state = model.start(beam_size)
    order = tf.range(tf.shape(sentences.done)[0])
    nothing = _take((order, sentences), tf.zeros([0], tf.int32))

    def chunk(index: tf.Tensor, finished: Any, order: tf.Tensor, sentences: Any, state: Any) -> Any:
        finished = _append(finished, _take((order, sentences), _places(sentences.done)))
        order, sentences, state = _take((order, sentences, state), _places(~sentences.done))
        index, sentences, state = _steps(model, index, sentences, state, advance)
        return index, finished, order, sentences, model.settle(state)

    def goes_on(
        index: tf.Tensor, finished: Any, order: tf.Tensor, sentences: Any, state: Any
    ) -> Any:
        return ~tf.reduce_all(sentences.done)

    _, finished, order, sentences, _ = tf.while_loop(
        goes_on,
        chunk,
        (tf.constant(0), nothing, order, sentences, state),
        shape_invariants=(
            tf.TensorShape([]),
            _open_shapes(nothing),
            tf.TensorShape([None]),
            _open_shapes(sentences),
            model.shapes(state),
        ),
    )
    order, sentences = _append(finished, (order, sentences))
    back = tf.math.top_k(-order, tf.size(order)).indices
    return _take(sentences, back)


def _steps(
    model: SearchModel, index: tf.Tensor, sentences: Any, state: Any, advance: Advance
) -> tuple[tf.Tensor, Any, Any]:
    """Makes a chunk of steps, fewer if all sentences are done before."""
    end = index + model.chunk

    def body(index: tf.Tensor, sentences: Any, state: Any) -> Any:
        sentences, state = advance(index, sentences, state)
        return index + 1, sentences, state

    def goes_on(index: tf.Tensor, sentences: Any, state: Any) -> Any:
        return (index < end) & ~tf.reduce_all(sentences.done)

    result: tuple[tf.Tensor, Any, Any] = tf.while_loop(
        goes_on,
        body,
        (index, sentences, state),
        shape_invariants=(tf.TensorShape([]), _open_shapes(sentences), model.shapes(state)),
    )
    return result


def _places(chosen: tf.Tensor) -> tf.Tensor:
    """Lists where a boolean vector is true."""
    return tf.cast(tf.where(chosen)[:, 0], tf.int32)


def _take(nest: Any, places: tf.Tensor) -> Any:
    """Takes entries of the first axis of every tensor."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, places), nest)


def _append(nest: Any, more: Any) -> Any:
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), nest, more)


def _open_shapes(nest: Any) -> Any:
    return tf.nest.map_structure(lambda tensor: tf.TensorShape([None, *tensor.shape[1:]]), nest)
