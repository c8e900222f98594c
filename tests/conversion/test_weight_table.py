"""A table of weights fills every variable, and names what is missing, left over or misshapen."""

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from ktransformer.conversion import Problems, Weight, load_weights
from ktransformer.conversion.tensors import TensorReader
from ktransformer.conversion.weight_table import (
    check_layers,
    check_shape,
    joined,
    joined_transposed,
    transposed,
)

_TABLE = [
    Weight("layers.0.kernel", ("q.weight", "k.weight"), joined_transposed),
    Weight("layers.0.bias", ("q.bias", "k.bias"), joined),
    Weight("layers.1.kernel", ("out.weight",), transposed),
    Weight("layers.1.bias", ("out.bias",)),
]


@pytest.fixture
def model():
    built = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3)])
    built.build((None, 5))
    return built


@pytest.fixture
def tensors():
    generator = np.random.default_rng(0)
    shapes = {"q.weight": (2, 5), "k.weight": (2, 5), "q.bias": (2,), "k.bias": (2,)}
    shapes |= {"out.weight": (3, 4), "out.bias": (3,), "out.position_ids": (1, 2)}
    return {name: generator.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def _load(model, tensors, tmp_path, table=_TABLE, unused=(r".*position_ids",)) -> list[str]:
    save_file(tensors, tmp_path / "model.safetensors")
    problems = Problems()
    load_weights(model, table, TensorReader(tmp_path), problems, unused=unused)
    return problems.sentences


def test_fused_and_transposed_kernels_compute_what_theirs_do(model, tensors, tmp_path):
    assert _load(model, tensors, tmp_path) == []
    x = np.random.default_rng(1).normal(size=(2, 5)).astype("float32")
    q, k = (x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"] for name in "qk")
    expected = np.concatenate([q, k], axis=1) @ tensors["out.weight"].T + tensors["out.bias"]
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_missing_left_over_and_misshapen_tensors_are_all_named(model, tensors, tmp_path):
    del tensors["k.bias"]
    tensors["out.weight"] = tensors["out.weight"][:2]
    tensors["q.weight"] = tensors["q.weight"][:, :3].copy()
    tensors["extra"] = np.zeros(1, "float32")
    sentences = _load(model, tensors, tmp_path)
    assert len(sentences) == 4
    text = "; ".join(sentences)
    for named in ("lacks the tensor k.bias", "extra", "[2, 4]", "q.weight [2, 3]"):
        assert named in text


def test_a_tensor_that_ends_like_an_unused_one_is_not_left_out(model, tensors, tmp_path):
    (sentence,) = _load(model, tensors, tmp_path, unused=("position_ids",))
    assert "out.position_ids" in sentence


def test_a_table_without_a_variable_of_the_model_is_a_fault(model, tensors, tmp_path):
    with pytest.raises(ValueError, match="bias"):
        _load(model, tensors, tmp_path, table=_TABLE[:-1])


def test_sizes_are_compared_before_anything_is_built(tmp_path):
    save_file(
        {f"layers.{i}.kernel": np.zeros((2, 3), "float32") for i in (0, 1, 11)},
        tmp_path / "model.safetensors",
    )
    reader, problems = TensorReader(tmp_path), Problems()
    check_layers(reader, "layers.", 3, "num_layers", problems)
    check_shape(reader, "layers.0.kernel", (2, 3), problems)
    assert problems.sentences == []
    check_layers(reader, "layers.", 10**9, "num_layers", problems)
    check_shape(reader, "layers.0.kernel", (2, 10**9), problems)
    first, second = problems.sentences
    assert "3 layers" in first
    assert "num_layers=1000000000" in first
    assert "[2, 3]" in second
    assert "[2, 1000000000]" in second
