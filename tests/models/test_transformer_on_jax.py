"""The whole model in a process of its own, on JAX."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.losses import projected_losses
from tests.layers.layer_checks import array
from tests.models.small_transformer import INPUTS, SIZES, decode_in_steps, make_model

pytestmark = pytest.mark.long

_ON_JAX = """
import json, sys
import jax, keras, numpy as np
from ktransformer.losses import SmoothedCrossEntropy, projected_losses
from ktransformer.models import Transformer, check_decoding

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
folder, sizes = sys.argv[1], json.loads(sys.argv[2])
inputs = dict(np.load(f"{folder}/inputs.npz"))
model = Transformer(**sizes)
model.build()
model.load_weights(f"{folder}/model.weights.h5")
assert check_decoding(model) < 1e-4
assert check_decoding(Transformer(**sizes, source_vocabulary_size=20)) < 1e-4
logits = model(inputs)
rows, length = inputs["target"].shape
memory, cache, steps = model.prepare_memory(inputs["source"]), model.empty_state(rows, length), []
for index in range(length):
    step, cache = model.step(inputs["target"][:, index], index, cache, memory)
    steps.append(step)
labels = np.concatenate([inputs["target"][:, 1:], np.full((rows, 1), 2, "int32")], axis=1)
bias = keras.ops.convert_to_tensor(model.output_bias_weight)
arguments = model.hidden_states(inputs), model.output_table(), bias


def loss(hidden, table, bias):
    return projected_losses(hidden, table, labels, np.ones(labels.shape), 0.1, bias=bias)[0]


gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(*arguments)
named = dict(zip(("of_hidden", "of_table", "of_bias"), gradients))
np.savez(f"{folder}/jax.npz", logits=logits, steps=np.stack(steps, axis=1), **named)

model.compile(optimizer=keras.optimizers.Adam(0.02), loss=SmoothedCrossEntropy(0.1))
history = model.fit(inputs, labels, batch_size=rows, epochs=40, verbose=0)
print(json.dumps(history.history["loss"]))
"""


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """A model here, and what JAX, in a process of its own, made of its weights."""
    folder = tmp_path_factory.mktemp("jax")
    model = make_model(output_bias=True)
    model.save_weights(folder / "model.weights.h5")
    np.savez(folder / "inputs.npz", **INPUTS)
    losses = subprocess.run(
        [sys.executable, "-c", _ON_JAX, str(folder), json.dumps({**SIZES, "output_bias": True})],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    with np.load(folder / "jax.npz") as file:
        return model, dict(file), json.loads(losses.splitlines()[-1])


def test_jax_computes_the_same_logits_from_the_same_weights(on_jax):
    model, outputs, _ = on_jax
    expected = array(model(INPUTS))
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5, rtol=1e-5)


def test_jax_decodes_with_the_cache_as_tensorflow_does(on_jax):
    model, outputs, _ = on_jax
    expected = decode_in_steps(model, INPUTS)
    np.testing.assert_allclose(outputs["steps"], expected, atol=1e-5, rtol=1e-5)


def test_jax_computes_the_same_gradients_without_logits(on_jax):
    model, outputs, _ = on_jax
    labels = np.pad(INPUTS["target"][:, 1:], [(0, 0), (0, 1)], constant_values=2)
    hidden = tf.convert_to_tensor(model.hidden_states(INPUTS))
    table = tf.convert_to_tensor(model.output_table())
    bias = tf.convert_to_tensor(model.output_bias_weight)
    watched = [hidden, table, bias]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        weights = np.ones(labels.shape)
        loss = projected_losses(hidden, table, labels, weights, 0.1, bias=bias)[0]
    for name, expected in zip(
        ("of_hidden", "of_table", "of_bias"), tape.gradient(loss, watched), strict=True
    ):
        np.testing.assert_allclose(outputs[name], expected, atol=1e-5, rtol=1e-4)


def test_a_model_fits_on_jax(on_jax):
    losses = on_jax[2]
    assert losses[-1] < 0.8 * losses[0]
