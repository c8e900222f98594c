"""Activations that are computed again: the same training."""

import functools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from ktransformer.layers import EncoderBlock, FeedForward
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.models import (
    CausalLanguageModel,
    MaskedLanguageModel,
    Transformer,
    VisionTransformer,
)
from tests.layers.layer_checks import array
from tests.models.small_transformer import (
    DROPOUT_SIZES,
    INPUTS,
    SIZES,
    TARGET,
    fitted,
    moves_of_a_frozen_model,
)

LANGUAGE_MODEL = {k: v for k, v in DROPOUT_SIZES.items() if k != "num_decoder_layers"}
VISION = {k: v for k, v in LANGUAGE_MODEL.items() if k not in ("vocabulary_size", "max_length")} | {
    "num_classes": 3,
    "image_size": 8,
    "patch_size": 4,
}
LOGITS_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MASKED = {"ids": TARGET, "positions": np.array([[0, 2], [1, 3]], "int32")}
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "sizes", "inputs", "labels", "loss"),
    [
        (Transformer, DROPOUT_SIZES, INPUTS, TARGET, SmoothedCrossEntropy(0.1)),
        (MaskedLanguageModel, LANGUAGE_MODEL, MASKED, TARGET[:, :2], SmoothedCrossEntropy(0.1)),
        (CausalLanguageModel, LANGUAGE_MODEL, TARGET, 0 * TARGET + 5, SmoothedCrossEntropy(0.1)),
        (VisionTransformer, VISION, IMAGES, np.array([0, 2]), LOGITS_LOSS),
    ],
)
def test_the_losses_and_the_weights_are_the_same_dropout_included(
    kind, sizes, inputs, labels, loss
):
    plain, again = (
        fitted(lambda remat=remat: kind(**sizes, remat=remat), inputs, labels, loss)
        for remat in (False, True)
    )
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-6)
    assert plain[0][-1] < plain[0][0]
    for a, b in zip(plain[1], again[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


class Penalised(FeedForward):
    """Adds a loss of its own, as a router does."""

    def compute_hidden(self, inputs):
        hidden = super().compute_hidden(inputs)
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(hidden)))
        return hidden


class PenalisedBlock(EncoderBlock):
    def make_feed_forward(self):
        return Penalised(self.hidden_dim, dropout=self.hidden_dropout, name="feed_forward")


class PenalisedTransformer(Transformer):
    def make_encoder_block(self):
        return PenalisedBlock(**self.block_arguments())


def test_losses_that_layers_add_are_kept():
    model = PenalisedTransformer(**DROPOUT_SIZES, remat=True)
    model(INPUTS, training=True)  # It rematerializes in training alone.
    assert len(model.losses) == model.num_layers
    assert all(loss > 0 for loss in model.losses)


@pytest.mark.long
def test_losses_that_layers_add_are_trained_on():
    def fit(kind, remat):
        make = functools.partial(kind, **DROPOUT_SIZES, remat=remat)
        return fitted(make, INPUTS, TARGET, SmoothedCrossEntropy(0.1))[0]

    plain, again = (fit(PenalisedTransformer, remat) for remat in (False, True))
    np.testing.assert_allclose(again, plain, rtol=1e-6)
    assert plain[0] > fit(Transformer, remat=True)[0] + 1e-4


class Averaging(FeedForward):
    """Norms its inner layer by batches, with moving averages in weights that are not trained."""

    def build(self, input_shape):
        super().build(input_shape)
        self.batch_norm = keras.layers.BatchNormalization(dtype=self.dtype_policy)
        self.batch_norm.build((None, self.hidden_dim))

    def compute_hidden(self, inputs):
        return self.batch_norm(super().compute_hidden(inputs))


class AveragingBlock(EncoderBlock):
    def make_feed_forward(self):
        return Averaging(self.hidden_dim, dtype=self.dtype_policy, name="feed_forward")


class AveragingTransformer(Transformer):
    def make_encoder_block(self):
        return AveragingBlock(**self.block_arguments())


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_moving_averages_move_as_without_it(dtype):
    def averages(remat):
        keras.utils.set_random_seed(0)
        model = AveragingTransformer(**DROPOUT_SIZES, remat=remat, dtype=dtype)
        model(INPUTS, training=True)
        return [array(weight) for weight in model.non_trainable_weights]

    plain, again = averages(False), averages(True)
    assert len(plain) == 2 * SIZES["num_layers"]
    for expected, found in zip(plain, again, strict=True):
        assert not np.isin(expected, (0, 1)).all()  # The values they start from.
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_frozen_weights_keep_their_values_exactly_in_half_precision():
    frozen, trained = moves_of_a_frozen_model(
        SmoothedCrossEntropy(0.1), remat=True, dtype="mixed_bfloat16"
    )
    assert frozen == 0 < trained


def test_a_saved_model_remembers_it(tmp_path):
    model = Transformer(**SIZES, remat=True)
    model.build()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.remat, loaded.encoder.remat, loaded.decoder.remat) == (True, True, True)


def on_jax(expression):
    """Evaluates an expression on JAX; returns its value by way of JSON."""
    script = f"""
import json
import keras
from tests.models.small_transformer import *
from ktransformer.losses import SmoothedCrossEntropy
assert keras.backend.backend() == "jax"
loss = SmoothedCrossEntropy(0.1)
make = lambda remat: lambda: Transformer(**DROPOUT_SIZES, remat=remat)
print(json.dumps({expression}))
"""
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


@pytest.mark.long
def test_the_losses_are_the_same_on_jax():
    plain, again = on_jax(
        "[fitted(make(remat), INPUTS, TARGET, loss)[0] for remat in (False, True)]"
    )
    np.testing.assert_allclose(again, plain, rtol=1e-5)
    assert plain[-1] < plain[0]


@pytest.mark.long
def test_frozen_weights_keep_their_values_exactly_in_half_precision_on_jax():
    frozen, trained = on_jax("moves_of_a_frozen_model(loss, remat=True, dtype='mixed_bfloat16')")
    assert frozen == 0 < trained
