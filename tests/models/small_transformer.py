"""A small Transformer with random weights, its inputs, and its decoding through the cache."""

import keras
import numpy as np
from keras import ops

from ktransformer.models import Transformer
from ktransformer.models.parts import freeze
from tests.layers.layer_checks import array, randomize

VOCABULARY_SIZE = 13
SIZES = {
    "vocabulary_size": VOCABULARY_SIZE,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "d_model": 8,
    "num_heads": 2,
    "hidden_dim": 16,
    "dropout": 0.2,
    "max_length": 8,
}
DROPOUT_SIZES = {**SIZES, "attention_dropout": 0.2, "hidden_dropout": 0.2}
SOURCE = np.array([[5, 0, 7, 3, 0, 0], [4, 9, 2, 6, 1, 0]], "int32")  # Pads in the middle, too.
TARGET = np.array([[1, 6, 8, 4, 9], [1, 2, 3, 7, 5]], "int32")
INPUTS = {"source": SOURCE, "target": TARGET}


def make_model(**overrides):
    """Makes a model with random weights, biases and norms included."""
    model = Transformer(**{**SIZES, **overrides})
    model.build()
    return randomize(model)


def decode_in_steps(model, inputs, step=None):
    """Feeds the target token by token through the cache: logits `[B, T, V]`."""
    rows, length = inputs["target"].shape
    memory, cache = model.prepare_memory(inputs["source"]), model.empty_state(rows, length)
    logits, step = [], step or model.step
    for index in range(length):
        newest = ops.convert_to_tensor(inputs["target"][:, index])
        step_logits, cache = step(newest, ops.convert_to_tensor(index, "int32"), cache, memory)
        logits.append(array(step_logits))
    return np.stack(logits, axis=1)


def fitted(make, inputs, labels, loss):
    """The losses and the weights of a short training with dropout."""
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(keras.optimizers.SGD(0.1), loss)
    losses = model.fit(inputs, labels, batch_size=2, epochs=4, verbose=0).history["loss"]
    return losses, model.get_weights()


def moves_of_a_frozen_model(loss, **options):
    """Trains with frozen self-attention: the largest move of a frozen and of a trained weight."""
    keras.utils.set_random_seed(0)
    model = Transformer(**{**DROPOUT_SIZES, **options})
    model.build()
    freeze(model, ["self_attention"])
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(INPUTS, TARGET, verbose=0)
    moves = {True: 0.0, False: 0.0}
    for weight, value in zip(model.weights, before, strict=True):
        move = np.abs(array(weight) - value).max()
        moves[weight.trainable] = max(moves[weight.trainable], float(move))
    return moves[False], moves[True]
