"""Every public layer and model keeps Keras' contract, here and on JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from ktransformer import layers, models
from ktransformer.layers import EncoderBlock, FeedForward
from tests.layers.contract_cases import CASES
from tests.layers.contract_checks import check_contract
from tests.layers.layer_checks import array, normal


def test_every_public_layer_is_checked():
    public = {
        value
        for module in (layers, models)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, keras.layers.Layer)
    }
    bases = {models.BlockModel, models.EncoderModel, models.TextModel, models.NextTokenModel}
    assert public - bases == set(CASES)


@pytest.mark.parametrize("layer", CASES, ids=lambda layer: layer.__name__)
def test_a_layer_keeps_the_contract_of_keras(layer, tmp_path):
    check_contract(CASES[layer], tmp_path)


@pytest.mark.long
def test_every_layer_keeps_the_contract_on_jax(tmp_path):
    lines = subprocess.run(
        [sys.executable, "-m", "tests.layers.contract_checks", str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()
    assert lines == [f"jax {layer.__name__}" for layer in CASES]


def test_a_block_runs_once_a_time_step():
    block = EncoderBlock(2, 32)
    sequences = keras.Input((3, 6, 16))
    outputs = keras.layers.TimeDistributed(block)(sequences)
    assert outputs.shape == (None, 3, 6, 16)
    values = normal(2, 3, 6, 16)
    got = array(keras.Model(sequences, outputs)(values))
    for time in range(3):
        np.testing.assert_allclose(got[:, time], array(block(values[:, time])), atol=1e-5)


class HalfWidth(FeedForward):
    def call(self, inputs, training=None):
        return super().call(inputs, training=training)[..., : self.hidden_dim // 2]


def test_a_subclass_that_returns_another_shape_is_described_by_its_call():
    assert HalfWidth(8)(keras.Input((None, 16))).shape == (None, None, 4)
