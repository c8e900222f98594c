"""The feed-forward network."""

import math

import keras
import numpy as np
import pytest

from ktransformer.layers import FeedForward, GatedFeedForward
from tests.layers.layer_checks import array, built, check_layer, normal


def test_it_is_a_layer_like_any_other(tmp_path):
    check_layer(
        lambda dtype: FeedForward(
            6, activation="gelu", dropout=0.2, kernel_initializer="he_normal", dtype=dtype
        ),
        [normal(2, 5, 4)],
        (2, 5, 4),
        tmp_path,
    )


def test_it_is_two_kernels_with_a_relu_between():
    layer = FeedForward(2)
    layer.build((None, None, 1))
    layer.set_weights(
        [
            np.array([[1.0, -1.0]]),  # Inner kernel and bias.
            np.array([0.5, 0.0]),
            np.array([[2.0], [3.0]]),  # Outer kernel and bias.
            np.array([0.25]),
        ]
    )
    outputs = layer(np.array([[[1.0], [-2.0]]], "float32"))
    # 1: relu(1.5, -1) = (1.5, 0) -> 3.25; -2: relu(-1.5, 2) = (0, 2) -> 6.25.
    np.testing.assert_allclose(outputs, [[[3.25], [6.25]]])


@pytest.mark.parametrize("activation", ["silu", keras.activations.silu])
def test_the_activation_may_be_a_name_or_a_function(activation):
    layer = built(FeedForward(3, activation=activation), (None, None, 2))
    inputs = normal(1, 4, 2)
    inner = inputs @ layer.hidden_projection.kernel.numpy() + layer.hidden_projection.bias.numpy()
    np.testing.assert_allclose(
        array(layer.compute_hidden(inputs)), inner / (1 + np.exp(-inner)), rtol=1e-5, atol=1e-6
    )


def test_every_position_is_computed_alone():
    layer, inputs = built(FeedForward(6), (None, None, 4)), normal(2, 5, 4)
    alone = [array(layer(inputs[:, t : t + 1])) for t in range(5)]
    np.testing.assert_allclose(array(layer(inputs)), np.concatenate(alone, axis=1), atol=1e-5)


def test_dropout_zeroes_inner_features_in_training_only():
    layer = FeedForward(64, activation="linear", dropout=0.5)
    layer.build((None, None, 1))
    layer.set_weights([np.ones((1, 64)), np.zeros(64), np.ones((64, 1)), np.zeros(1)])
    inputs = np.ones((1, 200, 1), "float32")
    np.testing.assert_allclose(layer(inputs), 64 * np.ones((1, 200, 1)))
    dropped = array(layer(inputs, training=True))
    # Each output is 2 * (features that were kept), 32 of them on average, 4 the deviation.
    np.testing.assert_allclose(dropped / 2, np.round(dropped / 2))
    assert dropped.std() > 2
    assert abs(dropped.mean() - 64) < 3


def test_the_mask_passes_through():
    inputs = keras.Input((None, 4))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, FeedForward(6)(masked))
    values = np.array([[[1, 2, 3, 4], [0, 0, 0, 0]]], "float32")
    np.testing.assert_array_equal(keras.Model(inputs, masked)(values)._keras_mask, [[True, False]])
    np.testing.assert_array_equal(model(values)._keras_mask, [[True, False]])


def test_a_hidden_dim_below_one_is_refused():
    with pytest.raises(ValueError, match="hidden_dim=0"):
        FeedForward(0)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_outside_its_range_is_refused(dropout):
    with pytest.raises(ValueError, match=rf"\[0, 1\).* dropout={dropout}"):
        FeedForward(4, dropout=dropout)


def test_a_gated_network_is_a_layer_like_any_other(tmp_path):
    check_layer(
        lambda dtype: GatedFeedForward(6, dropout=0.2, use_bias=False, dtype=dtype),
        [normal(2, 5, 4)],
        (2, 5, 4),
        tmp_path,
    )


def test_the_gate_multiplies_the_inner_layer():
    layer = GatedFeedForward(1, use_bias=False)
    layer.build((None, None, 1))
    layer.hidden_projection.kernel.assign([[3.0]])
    layer.gate_projection.kernel.assign([[1.0]])
    layer.output_projection.kernel.assign([[2.0]])
    outputs = array(layer(np.array([[[2.0], [-1.0]]], "float32")))
    # 2 silu(2) * 6 and 2 silu(-1) * -3, with silu(x) = x / (1 + exp(-x)).
    np.testing.assert_allclose(outputs[0], [[21.13913], [1.613648]], rtol=1e-5)


def test_the_gate_of_geglu_is_the_exact_gelu():
    layer = built(GatedFeedForward(3, activation="gelu"), (None, None, 2))
    inputs = normal(4, 2)
    gate = inputs @ layer.gate_projection.kernel.numpy() + layer.gate_projection.bias.numpy()
    inner = inputs @ layer.hidden_projection.kernel.numpy() + layer.hidden_projection.bias.numpy()
    phi = np.vectorize(lambda x: 0.5 * (1 + math.erf(x / 2**0.5)))
    expected = gate * phi(gate) * inner
    np.testing.assert_allclose(array(layer.compute_hidden(inputs)), expected, atol=1e-5)


@pytest.mark.parametrize(("layer", "kernels"), [(FeedForward, 2), (GatedFeedForward, 3)])
def test_without_biases_only_the_kernels_are_weights(layer, kernels):
    network = layer(6, use_bias=False)
    network.build((None, None, 4))
    assert [w.name for w in network.trainable_weights] == ["kernel"] * kernels
