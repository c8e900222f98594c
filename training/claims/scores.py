"""Judges logits that are at hand, where a model is run in another way than `loop.evaluate` does."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ktransformer.text import PAD_ID
from training.claims.loop import Evaluation


def predictor(model: keras.Model) -> Any:
    """Compiles a model with dropout off, once, however often its weights change."""
    return tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)


def evaluation(logits: Any, labels: np.ndarray) -> Evaluation:
    """Judges logits `[B, T, V]` by labels `[B, T]`, padded labels left out."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy()
    real = labels != PAD_ID
    right = np.argmax(logits, axis=-1) == labels
    return Evaluation(
        loss=float(losses[real].mean()),
        accuracy=float(right[real].mean()),
        exact=float((right | ~real).all(axis=1).mean()),
    )
