"""The feed-forward network."""

import keras
import numpy as np
import pytest

from ktransformer.layers import FeedForward
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
    with pytest.raises(ValueError, match="hidden_dim must be at least 1; got hidden_dim=0"):
        FeedForward(0)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_outside_its_range_is_refused(dropout):
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\); got dropout="):
        FeedForward(4, dropout=dropout)
