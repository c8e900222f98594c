"""The Keras contract of a layer, checked in one place for every public one, on any backend."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from tests.layers.contract_cases import CASES, Case, map_axes, sized

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


def check_contract(case: Case, folder: Path) -> None:
    """Checks what Keras asks of a layer."""
    for policy in POLICIES:
        layer = case.make(policy)
        _check_outputs(case, layer)
        _check_config(layer)
    layer = case.make("float32")
    _check_shapes_before_build(case, layer)
    layer(*case.arrays())
    _randomize(layer)
    _check_symbolic_shapes(case, layer)
    _check_masks(case, layer)
    _check_functional_model(case, layer, folder)


def array(tensor: object) -> np.ndarray:
    """Returns a tensor of any float dtype as a float32 NumPy array."""
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def _randomize(layer: keras.layers.Layer) -> None:
    generator = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(generator.normal(size=weight.shape))


def _check_shapes_before_build(case: Case, layer: keras.layers.Layer) -> None:
    for unknown in ("", "B", "TSM", "BTSM"):
        shapes = map_axes(lambda axes, unknown=unknown: sized(axes, unknown), case.inputs)
        expected = sized(case.output, unknown)
        assert tuple(layer.compute_output_shape(*shapes)) == expected
        spec = layer.compute_output_spec(*_symbols(case, unknown))
        assert (spec.shape, spec.dtype) == (expected, layer.compute_dtype)
    assert not layer.built


def _check_outputs(case: Case, layer: keras.layers.Layer) -> None:
    outputs = layer(*case.arrays())
    assert tuple(outputs.shape) == sized(case.output)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    assert {weight.dtype for weight in layer.trainable_weights} == {"float32"}


def _check_config(layer: keras.layers.Layer) -> None:
    config = layer.get_config()
    json.dumps(config)
    copy = type(layer).from_config(config)
    assert copy.get_config() == config
    assert copy.dtype_policy == layer.dtype_policy


def _check_symbolic_shapes(case: Case, layer: keras.layers.Layer) -> None:
    outputs = layer(*_symbols(case, "TSM"))  # A trace loses B, which is known.
    assert outputs.shape == sized(case.output, "TSM")
    assert outputs.dtype == layer.compute_dtype


def _check_masks(case: Case, layer: keras.layers.Layer) -> None:
    given = np.array([[True, True, False, True, False], [True] * 5])
    computed = layer.compute_mask(case.arrays()[0], given)
    if case.mask is None:
        assert computed is None or not layer.supports_masking
        return
    assert layer.supports_masking
    expected = given if case.mask == "same" else case.ids_with_mask() != 0
    np.testing.assert_array_equal(computed, expected)


def _check_functional_model(case: Case, layer: keras.layers.Layer, folder: Path) -> None:
    symbols = _symbols(case, "BTSM")
    model = keras.Model(symbols[0] if len(symbols) == 1 else list(symbols), layer(*symbols))
    assert model.output_shape == sized(case.output, "BTSM")
    arrays = case.arrays()
    inputs = arrays[0] if len(arrays) == 1 else list(arrays)
    expected = array(layer(*arrays))
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, rtol=1e-4, atol=1e-4)
    clone = keras.models.clone_model(model)
    assert not {id(weight) for weight in clone.weights} & {id(w) for w in model.weights}
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(array(clone(inputs)), expected)
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(array(loaded(inputs)), expected)


def _symbols(case: Case, unknown: str) -> tuple[object, ...]:
    dtype = "int32" if case.integers else "float32"

    def symbol(axes: tuple[object, ...], name: str | None = None) -> object:
        return keras.Input(batch_shape=sized(axes, unknown), dtype=dtype, name=name)

    return tuple(
        {name: symbol(axes, name) for name, axes in value.items()}
        if isinstance(value, dict)
        else symbol(value)
        for value in case.inputs
    )


if __name__ == "__main__":  # On the backend that the environment names.
    for checked, its_case in CASES.items():
        check_contract(its_case, Path(sys.argv[1]))
        print(keras.backend.backend(), checked.__name__)
