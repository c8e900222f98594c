"""Root mean square normalization."""

import keras
import numpy as np
import pytest

from ktransformer.layers import RMSNormalization
from tests.layers.layer_checks import array, built, check_layer, normal


def test_it_is_a_layer_like_any_other(tmp_path):
    check_layer(
        lambda dtype: RMSNormalization(epsilon=1e-4, dtype=dtype),
        [normal(2, 5, 4)],
        (2, 5, 4),
        tmp_path,
    )


def test_a_vector_is_divided_by_its_root_mean_square_and_scaled():
    layer = RMSNormalization(epsilon=1.0)
    layer.build((None, None, 2))
    layer.gamma.assign([1.0, 10.0])
    # The mean square of (1, 7) is 25, and of (2, 4) 10; epsilon adds 1.
    outputs = array(layer(np.array([[[1.0, 7.0], [2.0, 4.0]]], "float32")))
    np.testing.assert_allclose(
        outputs[0], [[26**-0.5, 70 * 26**-0.5], [2 * 11**-0.5, 40 * 11**-0.5]], rtol=1e-6
    )


def test_it_equals_the_norm_of_keras():
    inputs = normal(2, 5, 8)
    ours = built(RMSNormalization(epsilon=1e-5), (None, None, 8))
    keras_norm = keras.layers.RMSNormalization(epsilon=1e-5)
    keras_norm.build((None, None, 8))
    keras_norm.set_weights(ours.get_weights())
    np.testing.assert_allclose(array(ours(inputs)), array(keras_norm(inputs)), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_large_features_do_not_overflow_in_half_precision(policy):
    layer = RMSNormalization(dtype=policy)
    layer.build((None, None, 4))
    outputs = array(layer(np.full((1, 1, 4), 3e4, "float32")))
    np.testing.assert_allclose(outputs, np.ones((1, 1, 4)), rtol=1e-2)
