"""Evaluates precomputed logits, for models that `loop.evaluate` does not run."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ktransformer.text import PAD_ID
from training.claims.loop import Evaluation


def predictor(model: keras.Model) -> Any:
    """Compiles a model without dropout; the function always uses the current weights."""
    return tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)


def evaluation(logits: Any, labels: np.ndarray) -> Evaluation:
    """Evaluates logits `[B, T, V]` against labels `[B, T]`, ignoring padding."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy()
    real = labels != PAD_ID
    right = np.argmax(logits, axis=-1) == labels
    return Evaluation(
        loss=float(losses[real].mean()),
        accuracy=float(right[real].mean()),
        exact=float((right | ~real).all(axis=1).mean()),
    )
