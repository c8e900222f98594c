"""The loop of every search: in chunks, after which finished sentences leave, or in stages."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ktransformer.decoding.search_model import SearchModel

# Takes the position, the sentences and the model's state; returns the latter two after the step.
Advance = Callable[[tf.Tensor, Any, Any], tuple[Any, Any]]


def run_steps(model: SearchModel, beam_size: int, sentences: Any, advance: Advance) -> Any:
    """Runs the steps of a search until every sentence is finished.

    Args:
        model: Predicts the next tokens.
        beam_size: K, hypotheses per sentence.
        sentences: Named tuple of tensors `[B, ...]`, among them `done`, boolean `[B]`, and, for a
            search in stages, `limits`, int32 `[B]`, and `positions`, int32 `[B, T]`.
        advance: Runs one step of the search.

    Returns:
        The finished `sentences`, in their original order.
    """
    run = _run_stages if model.stages else _run_chunks
    return run(model, beam_size, sentences, advance)


def longest_target(model: SearchModel, limits: tf.Tensor) -> tf.Tensor:
    """Returns the tokens that there must be room for: those of the last stage, or the limits'."""
    if model.stages:
        return model.stages[-1]
    return tf.reduce_max(tf.concat([limits, [1]], axis=0))  # Of an empty batch, too.


def _run_stages(model: SearchModel, beam_size: int, sentences: Any, advance: Advance) -> Any:
    """Runs the steps in the stages of the model, whose shapes are fixed."""
    # XLA (TensorFlow 2.21) fails on loops that hand a constant on, which positions would become.
    positions = sentences.positions + tf.minimum(sentences.limits[:, None], 0)
    sentences = sentences._replace(positions=positions)
    state, index, room = model.start(beam_size), tf.constant(0), None

    def step(index: tf.Tensor, sentences: Any, state: Any) -> Any:
        sentences, state = advance(index, sentences, state)
        return index + 1, sentences, state

    for end in model.stages:
        if room is not None:
            state = model.grow(state, end - room)
        index, sentences, state = tf.while_loop(
            lambda index, sentences, state, end=end: (index < end) & ~tf.reduce_all(sentences.done),
            step,
            (index, sentences, state),
        )
        room = end
    return sentences


def _run_chunks(model: SearchModel, beam_size: int, sentences: Any, advance: Advance) -> Any:
    """Runs the steps in chunks.

    After each chunk the model flushes its state, and the finished sentences leave the batch.
    """
    state = model.start(beam_size)
    order = tf.range(tf.shape(sentences.done)[0])
    nothing = _take((order, sentences), tf.zeros([0], tf.int32))
    size, shapes = tf.TensorShape([]), (_open_shapes(sentences), model.shapes(state))

    def step(index: tf.Tensor, end: tf.Tensor, sentences: Any, state: Any) -> Any:
        sentences, state = advance(index, sentences, state)
        return index + 1, end, sentences, state

    def run_chunk(
        index: tf.Tensor, finished: Any, order: tf.Tensor, sentences: Any, state: Any
    ) -> Any:
        index, _, sentences, state = tf.while_loop(
            lambda index, end, sentences, state: (index < end) & ~tf.reduce_all(sentences.done),
            step,
            (index, index + model.chunk, sentences, state),
            shape_invariants=(size, size, *shapes),
        )
        done = sentences.done
        finished = _append(finished, _take((order, sentences), _places(done)))
        # First the flush: how much a gather returns is known only when it runs, so that LiteRT
        # plans the memory of all that follows it again.
        going_on = _take((order, sentences, model.flush(state)), _places(~done))
        return index, finished, *going_on

    _, finished, order, sentences, _ = tf.while_loop(
        lambda index, finished, order, sentences, state: ~tf.reduce_all(sentences.done),
        run_chunk,
        (tf.constant(0), nothing, order, sentences, state),
        shape_invariants=(size, _open_shapes(nothing), tf.TensorShape([None]), *shapes),
    )
    order, sentences = _append(finished, (order, sentences))
    back = tf.math.top_k(-order, tf.size(order)).indices
    return _take(sentences, back)


def _places(chosen: tf.Tensor) -> tf.Tensor:
    """Returns the indices of the true entries: boolean `[B]` -> int32 `[N]`."""
    return tf.cast(tf.where(chosen)[:, 0], tf.int32)


def _take(nest: Any, places: tf.Tensor) -> Any:
    """Gathers entries along the first axis of every tensor."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, places), nest)


def _append(nest: Any, more: Any) -> Any:
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), nest, more)


def _open_shapes(nest: Any) -> Any:
    return tf.nest.map_structure(lambda tensor: tf.TensorShape([None, *tensor.shape[1:]]), nest)
