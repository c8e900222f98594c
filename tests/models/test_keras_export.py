"""`model.export` and `model.quantize` of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.layers import EncoderBlock
from ktransformer.models import MaskedLanguageModel, Transformer, VisionTransformer
from tests.layers.layer_checks import array, normal, randomize

SIZES = {"num_layers": 1, "d_model": 8, "num_heads": 2, "hidden_dim": 16}
IDS = np.array([[5, 9, 3, 0], [2, 5, 0, 0], [1, 1, 1, 1]], "int32")
OF_TEXTS = {Transformer: ("source", "target"), MaskedLanguageModel: ("ids", "positions")}
MODES = pytest.mark.parametrize("mode", ["int8", "int4", "float8"])


def make(model_class):
    model = model_class(13, max_length=8, **SIZES)
    model.build()
    return randomize(model)


@pytest.mark.parametrize(
    "model_class", [Transformer, pytest.param(MaskedLanguageModel, marks=pytest.mark.long)]
)
def test_an_export_takes_int32_ids_of_any_length(model_class, tmp_path):
    names = OF_TEXTS[model_class]
    model = make(model_class)
    model(dict.fromkeys(names, IDS[:, :2] % 2))  # Keras would take the shape of this call.
    model.export(tmp_path / "export", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "export")
    signature = loaded.signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in specs.items()} == {
        name: ([None, None], tf.int32) for name in names
    }
    inputs = {names[0]: IDS, names[1]: IDS[:, :3] % 4}
    (outputs,) = signature(**{name: tf.constant(ids) for name, ids in inputs.items()}).values()
    np.testing.assert_allclose(outputs, array(model(inputs)), atol=1e-5)


def test_an_export_takes_images_of_the_size_of_the_model(tmp_path):
    model = VisionTransformer(3, image_size=(4, 6), patch_size=2, **SIZES)
    model.export(tmp_path / "export", verbose=False)
    signature = tf.saved_model.load(tmp_path / "export").signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    assert (spec.shape.as_list(), spec.dtype) == ([None, 4, 6, 3], tf.float32)
    images = normal(2, 4, 6, 3)
    (logits,) = signature(tf.constant(images)).values()
    np.testing.assert_allclose(logits, array(model(images)), atol=1e-5)


@MODES
@pytest.mark.parametrize("model_class", OF_TEXTS, ids=lambda c: c.__name__)
def test_a_model_is_not_quantized_before_it_would_be_lost(model_class, mode):
    model = make(model_class)
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(NotImplementedError, match=rf"mode='{mode}'.*--quantize dynamic_int8"):
        model.quantize(mode)
    assert len(before) == len(model.weights)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@MODES
def test_a_quantized_model_around_our_layers_still_loads(mode, tmp_path):
    inputs = keras.Input((4, 8))
    outputs = keras.layers.Dense(3)(EncoderBlock(2, 16)(inputs))
    model = keras.Model(inputs, outputs)
    with pytest.warns(UserWarning, match="--quantize dynamic_int8"):
        model.quantize(mode)
    expected = array(model(normal(2, 4, 8)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(loaded(normal(2, 4, 8))), expected, atol=1e-5)
