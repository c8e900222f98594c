"""The wide mask and the weights under it, against arrays written by hand."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ktransformer.layers import KeySpan, MultiHeadSelfAttention, attention_mask
from tests.layers.layer_checks import array

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])


class GivenScores(MultiHeadSelfAttention):
    def compute_scores(self, query, key, positions):
        return query


def masked_weights(scores, mask):
    """Returns the weights that attention makes of scores `[B, H, T, S]`."""
    return GivenScores(1).span_weights(scores, [KeySpan(None, None, None, mask=mask)])


def test_without_padding_and_causality_there_is_no_mask():
    assert attention_mask(None, query_length=3, key_length=4) is None


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_a_padding_mask_is_widened_for_heads_and_queries(dtype):
    mask = np.array([[1, 1, 0], [1, 0, 0]], dtype)
    wide = ops.convert_to_numpy(attention_mask(mask, query_length=2, key_length=3))
    assert wide.dtype == bool
    np.testing.assert_array_equal(wide, [[[[True, True, False]]], [[[True, False, False]]]])


def test_a_causal_mask_shows_each_query_itself_and_the_past():
    wide = attention_mask(None, query_length=3, key_length=3, causal=True)
    np.testing.assert_array_equal(wide, [[[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]])


def test_a_causal_mask_hides_padding_too():
    mask = np.array([[True, True, True], [False, True, True]])
    wide = attention_mask(mask, query_length=3, key_length=3, causal=True)
    np.testing.assert_array_equal(
        wide, [[[[1, 0, 0], [1, 1, 0], [1, 1, 1]]], [[[0, 0, 0], [0, 1, 0], [0, 1, 1]]]]
    )


@DTYPES
def test_visible_scores_share_the_weight_and_hidden_ones_get_exactly_none(dtype):
    scores = ops.cast(np.log([[[[1.0, 3.0, 50.0], [2.0, 2.0, 4.0]]]]), dtype)
    mask = np.array([[[[True, True, False], [True, True, True]]]])
    weights = masked_weights(scores, mask)
    assert weights.dtype == scores.dtype
    assert array(weights)[0, 0, 0, 2] == 0
    tolerance = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(
        array(weights), [[[[0.25, 0.75, 0], [0.25, 0.25, 0.5]]]], atol=tolerance
    )


@DTYPES
def test_a_row_that_sees_nothing_has_weights_of_exactly_zero(dtype):
    scores = ops.cast(np.array([[[[7.0, -60000.0, 60000.0], [1.0, 1.0, 1.0]]]]), dtype)
    mask = np.array([[[[False, False, False], [True, True, False]]]])
    np.testing.assert_array_equal(
        array(masked_weights(scores, mask)), [[[[0, 0, 0], [0.5, 0.5, 0]]]]
    )


@DTYPES
def test_the_largest_scores_of_a_dtype_stay_finite(dtype):
    scores = ops.cast(np.array([[[[60000.0, 60000.0, -60000.0]]]]), dtype)
    for mask in (None, np.array([[[[True, True, True]]]])):
        np.testing.assert_array_equal(array(masked_weights(scores, mask)), [[[[0.5, 0.5, 0]]]])


def test_a_visible_score_however_low_beats_a_hidden_one():
    scores = np.array([[[[-1e6, 1e6]]]], "float32")
    weights = masked_weights(scores, np.array([[[[True, False]]]]))
    np.testing.assert_array_equal(weights, [[[[1, 0]]]])


def test_the_gradient_of_a_row_that_sees_nothing_is_zero():
    scores = tf.constant([[[[1.0, 2.0], [1.0, 2.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights = masked_weights(scores, np.array([[[[False, False], [True, True]]]]))
        loss = tf.reduce_sum(weights * [[1.0, 3.0]])
    gradient = tape.gradient(loss, scores).numpy()
    np.testing.assert_array_equal(gradient[0, 0, 0], [0, 0])
    # d/ds of w1 + 3 w2 is 2 w1 w2 (-1, 1).
    np.testing.assert_allclose(gradient[0, 0, 1], [-0.393224, 0.393224], rtol=1e-5)


def test_a_mask_of_three_axes_says_for_each_query_what_it_sees():
    mask = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], bool)
    np.testing.assert_array_equal(attention_mask(mask, query_length=3, key_length=3), mask[:, None])
    causal = attention_mask(mask, query_length=3, key_length=3, causal=True)
    np.testing.assert_array_equal(causal, np.tril(mask)[:, None])
