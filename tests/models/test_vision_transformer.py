"""The whole model: sizes, pooling, other image sizes, parity with PyTorch, saving, and JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from ktransformer.layers import EncoderBlock, FeedForward
from ktransformer.models import VISION_PRESETS, VisionTransformer
from tests.layers.layer_checks import (
    POLICIES,
    POLICIES_AND_MODES,
    TOLERANCE,
    array,
    compiled,
    normal,
    randomize,
)
from tests.layers.pytorch_weights import set_dense, set_feed_forward, set_norms, set_self_attention

SIZES = {
    "num_classes": 5,
    "image_size": (12, 16),
    "patch_size": 4,
    "num_layers": 2,
    "d_model": 8,
    "num_heads": 2,
    "hidden_dim": 16,
}
IMAGES = normal(2, 12, 16, 3)
OTHER_IMAGES = normal(2, 8, 28, 3, seed=1)  # Fewer rows of patches than trained, more columns.

POOLINGS = pytest.mark.parametrize("pooling", ["class_token", "mean"])


def make_model(**overrides):
    """Makes a model with random weights, biases and norms included."""
    model = VisionTransformer(**{**SIZES, **overrides})
    model.build()
    return randomize(model)


def count_by_hand(num_layers, d_model, hidden_dim, num_classes=1000, patches=196):
    """Counts a model's parameters by the paper's sizes: patches of 16 x 16 in three colours."""
    attention = 4 * (d_model * d_model + d_model)
    feed_forward = 2 * d_model * hidden_dim + hidden_dim + d_model
    norm = 2 * d_model
    block = attention + feed_forward + 2 * norm
    embedding = (3 * 16 * 16 + 1) * d_model + (patches + 1) * d_model + d_model
    return embedding + num_layers * block + norm + (d_model + 1) * num_classes


@pytest.mark.parametrize(
    ("preset", "parameters"), [("tiny", 5_717_416), ("small", 22_050_664), ("base", 86_567_656)]
)
def test_the_presets_have_the_published_parameters(preset, parameters):
    sizes = {name: VISION_PRESETS[preset][name] for name in ("num_layers", "d_model", "hidden_dim")}
    assert count_by_hand(**sizes) == parameters
    model = VisionTransformer.from_preset(preset, 1000)
    model.build()
    assert model.count_params() == parameters


@POOLINGS
@pytest.mark.parametrize("policy", POLICIES)
def test_every_method_gives_the_shape_that_its_docstring_says(policy, pooling):
    model = make_model(pooling=pooling, dtype=policy)
    patches = 12 + (pooling == "class_token")
    assert model.encode(IMAGES).shape == (2, patches, 8)
    assert model.features(IMAGES).shape == (2, 8)
    logits = model(IMAGES)
    assert logits.shape == (2, 5)
    assert keras.backend.standardize_dtype(logits.dtype) == model.compute_dtype
    assert [weights.shape for weights in model.attention_weights(IMAGES)] == [
        (2, 2, patches, patches)
    ] * 2


def test_class_token_pooling_is_the_first_vector_and_mean_pooling_the_mean():
    first, mean = make_model(), make_model(pooling="mean")
    np.testing.assert_array_equal(array(first.features(IMAGES)), array(first.encode(IMAGES))[:, 0])
    expected = array(mean.encode(IMAGES)).mean(axis=1)
    np.testing.assert_allclose(array(mean.features(IMAGES)), expected, atol=1e-6)


@POOLINGS
def test_logits_are_the_head_of_the_features(pooling):
    model = make_model(pooling=pooling)
    kernel, bias = model.head.get_weights()
    expected = array(model.features(IMAGES)) @ kernel + bias
    np.testing.assert_allclose(array(model(IMAGES)), expected, atol=1e-5)


def test_a_fresh_model_finds_every_class_as_likely():
    model = VisionTransformer(**SIZES)
    np.testing.assert_array_equal(array(model(IMAGES)), np.zeros((2, 5)))


def test_the_images_of_a_batch_do_not_see_each_other():
    model = make_model()
    alone = [array(model(IMAGES[row : row + 1])) for row in range(2)]
    np.testing.assert_allclose(array(model(IMAGES)), np.concatenate(alone), atol=1e-5)


def test_every_patch_counts_and_so_does_its_place():
    model, swapped = make_model(), IMAGES.copy()
    swapped[:, 8:, 8:12], swapped[:, 8:, 12:] = IMAGES[:, 8:, 12:], IMAGES[:, 8:, 8:12]
    assert np.abs(array(model(swapped)) - array(model(IMAGES))).max() > 1e-2


def test_without_positions_the_order_of_the_patches_does_not_count():
    model, swapped = make_model(pooling="mean"), IMAGES.copy()
    table = model.patch_embedding.position_embeddings
    table.assign(np.zeros(table.shape))
    swapped[:, 8:, 8:12], swapped[:, 8:, 12:] = IMAGES[:, 8:, 12:], IMAGES[:, 8:, 8:12]
    np.testing.assert_allclose(array(model(swapped)), array(model(IMAGES)), atol=1e-5)


@pytest.mark.parametrize(("policy", "mode"), POLICIES_AND_MODES)
def test_compiled_and_half_precision_logits_equal_the_eager_ones(policy, mode):
    expected = array(make_model()(IMAGES))
    model = make_model(dtype=policy)
    call = compiled(lambda images: model(images), mode)
    logits = array(call(ops.convert_to_tensor(IMAGES)))
    tolerance = TOLERANCE[policy] * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(logits, expected, atol=tolerance)


@POOLINGS
def test_attention_weights_are_those_that_made_the_logits(pooling):
    model, used = make_model(pooling=pooling), []
    for block in model.encoder.blocks:
        attention = block.self_attention

        def spy(*arguments, compute=attention.compute_weights):
            used.append(array(compute(*arguments)))
            return compute(*arguments)

        attention.compute_weights = spy
    model(IMAGES)
    expected = list(used)
    for weights, other in zip(model.attention_weights(IMAGES), expected, strict=True):
        np.testing.assert_allclose(array(weights), other, atol=1e-6)
        np.testing.assert_allclose(array(weights).sum(axis=-1), 1, atol=1e-6)


@pytest.fixture(scope="module")
def pytorch():
    """What parity/make_pytorch_vit_parity.py wrote."""
    with np.load(Path(__file__).parent / "parity" / "pytorch_vit.npz") as stored:
        return dict(stored)


def load_pytorch(model, arrays, prefix):
    """Loads the weights of the PyTorch model into ours."""
    weights = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    embedding = model.patch_embedding
    kernel = weights["patches.weight"].transpose(2, 3, 1, 0)  # [D, C, P, P] -> [P, P, C, D]
    embedding.projection.set_weights([kernel.reshape(-1, model.d_model), weights["patches.bias"]])
    embedding.position_embeddings.assign(weights["positions"])
    if "class_token" in weights:
        embedding.class_embedding.assign(weights["class_token"])
    for number, block in enumerate(model.encoder.blocks):
        start = f"blocks.{number}."
        block_weights = {n.removeprefix(start): a for n, a in weights.items()}
        set_self_attention(block.self_attention, block_weights)
        set_feed_forward(block.feed_forward, block_weights)
        set_norms([block.self_attention_norm, block.feed_forward_norm], block_weights)
    model.encoder.final_norm.set_weights([weights["norm.weight"], weights["norm.bias"]])
    set_dense(model.head, weights["head.weight"], weights["head.bias"])


@POOLINGS
@pytest.mark.parametrize("images", ["trained", "other"])
def test_the_logits_equal_those_of_pytorch(pytorch, pooling, images):
    model = make_model(pooling=pooling)
    load_pytorch(model, pytorch, f"{pooling}/weights/")
    logits = array(model(pytorch[f"images/{images}"]))
    expected = pytorch[f"{pooling}/logits/{images}"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_both_tokens_are_what_the_head_sees():
    model = make_model(pooling="both_tokens", distillation_token=True)
    encoded = array(model.encode(IMAGES))
    assert encoded.shape == (2, 2 + 12, 8)
    np.testing.assert_array_equal(array(model.features(IMAGES)), encoded[:, :2].reshape(2, 16))


@POOLINGS
def test_a_saved_model_loads_with_the_same_config_and_logits(pooling, tmp_path):
    model = make_model(
        pooling=pooling,
        dropout=0.1,
        attention_dropout=0.2,
        hidden_dropout=0.3,
        activation="silu",
        epsilon=1e-4,
        dtype="mixed_bfloat16",
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    for images in (IMAGES, OTHER_IMAGES):
        np.testing.assert_array_equal(array(loaded(images)), array(model(images)))


def test_weights_alone_load_into_another_model(tmp_path):
    model, other = make_model(), VisionTransformer(**SIZES)
    other.build()
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(array(other(IMAGES)), array(model(IMAGES)))


@keras.saving.register_keras_serializable(package="tests")
class GatedFeedForward(FeedForward):
    """Gates the inner layer: `silu(x W_gate) * (x W_hidden)` (Shazeer 2020)."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gate = self.make_dense(self.hidden_dim, input_shape[-1], "gate")

    def compute_hidden(self, inputs):
        return ops.silu(self.gate(inputs)) * self.hidden_projection(inputs)


@keras.saving.register_keras_serializable(package="tests")
class GatedBlock(EncoderBlock):
    def make_feed_forward(self):
        return GatedFeedForward(self.hidden_dim, dtype=self.dtype_policy)


@keras.saving.register_keras_serializable(package="tests")
class GatedVisionTransformer(VisionTransformer):
    def make_encoder_block(self):
        return GatedBlock(**self.block_arguments())


@pytest.mark.long
def test_a_model_with_another_block_trains_saves_and_loads(tmp_path):
    model = GatedVisionTransformer(**SIZES)
    losses = fit(model)
    assert losses[0] == pytest.approx(np.log(5), abs=1e-4)  # Guessing.
    assert losses[-1] < 0.5
    assert len(model.encoder.blocks[0].feed_forward.weights) == 6
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(loaded(IMAGES)), array(model(IMAGES)))


def fit(model):
    """Trains a model to tell five noises apart; returns the losses."""
    keras.utils.set_random_seed(1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    images, labels = normal(10, 12, 16, 3), np.arange(10) % 5
    return model.fit(images, labels, batch_size=10, epochs=40, verbose=0).history["loss"]


def test_overrides_take_the_place_of_a_preset():
    model = VisionTransformer.from_preset("tiny", 7, num_layers=1, image_size=32, dropout=0.3)
    assert (model.num_classes, model.num_layers, model.d_model) == (7, 1, 192)
    assert (model.image_size, model.dropout) == ((32, 32), 0.3)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset .*\['base', 'small', 'tiny'\]"):
        VisionTransformer.from_preset("huge", 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": 0}, r"num_classes .*1.*num_classes=0"),
        ({"num_layers": 0}, r"num_layers .*1.*num_layers=0"),
        ({"num_heads": 0}, r"num_heads .*1.*num_heads=0"),
        ({"num_heads": 3}, r"d_model.*num_heads.*d_model=8.*num_heads=3"),
        ({"hidden_dim": 0}, r"hidden_dim .*1.*hidden_dim=0"),
        ({"image_size": 14}, r"image_size=\(14, 14\), patch_size=4"),
        ({"pooling": "max"}, r"pooling .*pooling='max'"),
        ({"pooling": "both_tokens"}, "both_tokens.*distillation_token=False"),
        ({"pooling": "mean", "distillation_token": True}, "class_token=False"),
        ({"attention_dropout": 1.0}, "dropout"),
    ],
    ids=str,
)
def test_an_impossible_argument_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformer(**{**SIZES, **wrong})


_ON_JAX = """
import json, sys
import keras, numpy as np
from ktransformer.models import VisionTransformer

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
folder, sizes = sys.argv[1], json.loads(sys.argv[2])
images = dict(np.load(f"{folder}/images.npz"))
model = VisionTransformer(**sizes)
model.build()
model.load_weights(f"{folder}/model.weights.h5")
np.savez(f"{folder}/jax.npz", **{name: model(value) for name, value in images.items()})

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss)
labels = np.array([3, 1])
print(json.dumps(model.fit(images["trained"], labels, epochs=20, verbose=0).history["loss"]))
"""


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """A model here, and what JAX, in a process of its own, made of its weights."""
    folder = tmp_path_factory.mktemp("jax")
    model = make_model()
    model.save_weights(folder / "model.weights.h5")
    np.savez(folder / "images.npz", trained=IMAGES, other=OTHER_IMAGES)
    losses = subprocess.run(
        [sys.executable, "-c", _ON_JAX, str(folder), json.dumps(SIZES)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    with np.load(folder / "jax.npz") as file:
        return model, dict(file), json.loads(losses.splitlines()[-1])


@pytest.mark.long
@pytest.mark.parametrize(("name", "images"), [("trained", IMAGES), ("other", OTHER_IMAGES)])
def test_jax_computes_the_same_logits_from_the_same_weights(on_jax, name, images):
    model, outputs, _ = on_jax
    np.testing.assert_allclose(outputs[name], array(model(images)), atol=1e-5, rtol=1e-5)


@pytest.mark.long
def test_a_model_fits_on_jax(on_jax):
    losses = on_jax[2]
    assert losses[-1] < 0.5 * losses[0]
