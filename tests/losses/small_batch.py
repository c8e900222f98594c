"""A batch of labels and logits, and the plain formula of the loss."""

import numpy as np

SMOOTHINGS = (0.0, 0.1, 0.5)


def make_batch(seed=0, shape=(3, 5), vocabulary_size=7, scale=3.0):
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(*shape, vocabulary_size)) * scale).astype("float32")
    labels = random.integers(1, vocabulary_size, size=shape).astype("int32")
    labels[0, 2:] = 0
    labels[2, 4:] = 0
    return labels, logits


def plain_losses(labels, logits, label_smoothing):
    """The formula as it is written, in float64: `[B, T]`."""
    logits = logits.astype("float64")
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    vocabulary_size = logits.shape[-1]
    target = (1 - label_smoothing) * np.eye(vocabulary_size)[labels]
    return -((target + label_smoothing / vocabulary_size) * log_probabilities).sum(-1)
