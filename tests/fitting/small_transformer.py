"""A small Transformer, a batch for it, and what it says."""

import keras
import numpy as np

from ktransformer.models import Transformer
from tests.models.small_transformer import SIZES


def make_batch(rows=4, length=6):
    random = np.random.default_rng(0)
    source, labels = random.integers(4, 11, size=(2, rows, length)).astype("int32")
    source[1, 3:] = labels[0, 4:] = labels[3, 2:] = 0
    target = np.where(labels == 0, 0, np.roll(labels, 1, axis=1)).astype("int32")
    target[:, 0] = 2
    return {"source": source, "target": target}, labels


def make_model(**options) -> Transformer:
    keras.utils.set_random_seed(0)
    model = Transformer(**{**SIZES, "num_layers": 1, "dropout": 0.1, **options})
    model.build()
    return model


def logits(model):
    """What a model says of some ids. Not its weights: rounding moves the keys' biases at will."""
    ids = np.arange(40).reshape(4, 10)
    return np.array(model({"source": ids, "target": ids}))
