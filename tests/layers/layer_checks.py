"""What every layer must do, checked in one place, and the tools that the tests of layers share."""

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ktransformer.layers.block_config import OPTIONS, ConfiguredLayer

# How far two ways to the same output may lie apart. Outputs are of the order of 1; float16 has 11
# bits of precision and bfloat16 has 8, and a few roundings add up.
TOLERANCE = {"float32": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 6e-2}
_long = pytest.mark.long
POLICIES = ("float32", "mixed_float16", pytest.param("mixed_bfloat16", marks=_long))
MODES = ("eager", "function", pytest.param("jit", marks=_long))
# Every dtype, and every mode in float32: what is slow to compile need not run in all pairs.
POLICIES_AND_MODES = (
    ("float32", "eager"),
    ("mixed_float16", "eager"),
    pytest.param("mixed_bfloat16", "eager", marks=_long),
    ("float32", "function"),
    pytest.param("float32", "jit", marks=_long),
)


def array(tensor):
    """Returns a tensor of any float dtype as a float32 NumPy array."""
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def normal(*shape, seed=0):
    """Draws a float32 NumPy array from the standard normal distribution."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomize(layer, seed=0):
    """Draws every weight from a seed, so that no bias is 0 and no norm's scale is 1."""
    generator = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        deviation = weight.shape[0] ** -0.5 if len(weight.shape) == 2 else 0.3
        value = deviation * generator.normal(size=weight.shape)
        weight.assign(value + 1 if weight.name == "gamma" else value)
    return layer


def built(layer, *shapes):
    """Builds a layer for the shapes and draws its weights from a seed."""
    layer.build(*shapes)
    return randomize(layer)


def compiled(function, mode):
    """Returns the function as it is, as a `tf.function`, or compiled by XLA."""
    return function if mode == "eager" else tf.function(function, jit_compile=mode == "jit")


def with_same_noise(layer, function):
    """Wraps a function of the layer: every call draws the same dropout."""
    variables = layer.non_trainable_variables
    state = [ops.convert_to_numpy(variable) for variable in variables]

    def call(*arguments):
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        return array(function(*arguments))

    return call


def check_layer(make, inputs, output_shape, folder):
    """Checks all that holds for any layer.

    Args:
        make: Function of a dtype policy that makes the layer from keyword arguments.
        inputs: NumPy arrays, the layer's positional arguments.
        output_shape: The expected shape of the output.
        folder: Where models are saved.
    """
    for policy in TOLERANCE:
        layer = make(policy)
        outputs = layer(*inputs)
        assert tuple(outputs.shape) == output_shape
        compute_dtype = keras.DTypePolicy(policy).compute_dtype
        assert keras.backend.standardize_dtype(outputs.dtype) == compute_dtype
        assert {weight.dtype for weight in layer.weights} <= {"float32"}
        assert layer.supports_masking
        randomize(layer)
        _check_config(layer, inputs)
        _check_gradients(layer, inputs)
        if policy == "mixed_float16":  # The config of every other is checked, too.
            _check_saving(layer, inputs, folder / f"{policy}.keras")


def _check_config(layer, inputs):
    config = layer.get_config()
    json.dumps(config)
    for name in _constructor_arguments(type(layer)):
        assert hasattr(layer, name), f"{name} is not an attribute"
        assert name in config, f"{name} is not in the config"
    clone = type(layer).from_config(layer.get_config())
    assert clone.get_config() == config
    clone(*inputs)
    clone.set_weights(layer.get_weights())
    np.testing.assert_array_equal(array(clone(*inputs)), array(layer(*inputs)))


def _constructor_arguments(layer_class):
    names = set(OPTIONS) if issubclass(layer_class, ConfiguredLayer) else set()
    for parent in layer_class.__mro__:
        if parent is keras.layers.Layer:
            return names - {"self", "kwargs", "options"}
        if "__init__" in vars(parent):
            names |= set(inspect.signature(parent.__init__).parameters)
    raise TypeError(f"{layer_class} is no layer.")


def _check_gradients(layer, inputs):
    direction = normal(*layer(*inputs).shape, seed=9)
    with tf.GradientTape() as tape:
        loss = ops.sum(ops.cast(layer(*inputs), "float32") * direction)
    weights = [weight.value for weight in layer.trainable_weights]
    assert weights
    for weight, gradient in zip(layer.trainable_weights, tape.gradient(loss, weights), strict=True):
        assert gradient is not None, f"no gradient reaches {weight.path}"
        assert np.any(array(tf.convert_to_tensor(gradient))), f"{weight.path} has gradient 0"


def _check_saving(layer, inputs, path):
    symbols = [keras.Input(value.shape[1:], dtype=value.dtype.name) for value in inputs]
    model = keras.Model(symbols, layer(*symbols))
    model.save(path)
    loaded = keras.saving.load_model(path)
    expected = array(layer(*inputs))
    np.testing.assert_array_equal(array(model(list(inputs))), expected)
    np.testing.assert_array_equal(array(loaded(list(inputs))), expected)
