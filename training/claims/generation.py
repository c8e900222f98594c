"""Runs a decoder on a known target, and greedy search, with and without a cache."""

from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.decoding import SpecialIds, StepFunctionModel, greedy_search
from ktransformer.models import Transformer
from ktransformer.text import END_ID, PAD_ID, START_ID

METHODS = ("one pass", "steps with a cache", "steps without a cache")
"""Methods that compute the logits of a known target."""


def known_target_methods(model: Transformer) -> dict[str, Any]:
    """Returns a function for each of `METHODS`: `(source, target) -> logits [B, T, V]`.

    The functions run in a graph; the embedding must be tied to the output projection.
    """

    def one_pass(source: Any, target: Any) -> Any:
        return model({"source": source, "target": target}, training=False)

    def cached_steps(source: Any, target: Any) -> Any:
        memory = model.prepare_memory(source)
        rows, length = tf.shape(target)[0], tf.shape(target)[1]
        state = model.empty_state(rows, length)
        logits = tf.TensorArray(tf.float32, size=length)
        for index in tf.range(length):
            newest, state = model.step(target[:, index], index, state, memory)
            logits = logits.write(index, newest)
        return tf.transpose(logits.stack(), (1, 0, 2))

    def uncached_steps(source: Any, target: Any) -> Any:
        memory = model.encode(source, training=False)
        mask = model.source_embedding.compute_mask(source)
        length = tf.shape(target)[1]
        logits = tf.TensorArray(tf.float32, size=length)
        for index in tf.range(length):
            known = model.target_embedding(target[:, : index + 1], training=False)
            hidden = model.decoder(known, memory, memory_mask=mask, training=False)
            newest = model.output_embedding.logits(hidden[:, -1:])  # [B, 1, V]
            logits = logits.write(index, newest[:, 0])
        return tf.transpose(logits.stack(), (1, 0, 2))

    return dict(zip(METHODS, (one_pass, cached_steps, uncached_steps), strict=True))


def greedy(model: Transformer, source: Any, length: int) -> Any:
    """Generates the first `length` tokens for each source by greedy search; runs in a graph.

    Every token is allowed, and the end token is not forced at the limit.

    Args:
        model: The model.
        source: Int tensor `[B, S]`.
        length: T.

    Returns:
        Int32 tensor `[B, T]`, padded after the end token.
    """
    rows = tf.shape(source)[0]

    def step(ids: Any, index: Any, state: Any) -> Any:
        logits, decoder = model.step(ids, index, state["decoder"], state["memory"])
        return logits, {**state, "decoder": decoder}

    memory, decoder = model.prepare_memory(source), model.empty_state(rows, length + 1)
    found = greedy_search(
        StepFunctionModel(step, {"memory": memory, "decoder": decoder}),
        tf.fill([rows], length + 1),  # A search forces the end at its limit.
        SpecialIds(START_ID, END_ID, PAD_ID),
    )
    return found.ids[:, 0, :length]


def greedy_without_cache(predict: Any, source: np.ndarray, length: int) -> np.ndarray:
    """Generates greedily without a cache: every step is a full pass over the tokens so far.

    This works for a model without a causal mask too, which cannot use a cache.

    Args:
        predict: Returns logits `[B, t, V]` for `{"source": [B, S], "target": [B, t]}`.
        source: Int array `[B, S]`.
        length: T.

    Returns:
        Int array `[B, T]`; tokens after an end token are meaningless.
    """
    target = np.full((len(source), 1), START_ID, "int32")
    for _ in range(length):
        logits = predict({"source": source, "target": target})
        newest = np.argmax(logits[:, -1], axis=-1).astype("int32")
        target = np.concatenate([target, newest[:, None]], axis=1)
    return target[:, 1:]
