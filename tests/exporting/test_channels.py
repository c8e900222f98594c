"""Weights in int8."""

import numpy as np
import pytest

from ktransformer.exporting.channels import quantize_channels


@pytest.mark.parametrize("channel", [0, 1])
def test_a_channel_of_zeros_stays_zeros_and_the_greatest_value_is_exact(channel):
    columns = np.array([[0.0, -2.0], [0.0, 1.0]], np.float32)
    values = columns if channel == 1 else columns.T
    stored, scales = quantize_channels(values, channel)
    assert (stored.dtype, scales.dtype) == (np.int8, np.float32)
    assert scales.shape == ((1, 2) if channel == 1 else (2, 1))
    np.testing.assert_allclose(stored * scales, values, atol=1 / 127)
    assert (stored * scales).min() == pytest.approx(-2.0)


def test_the_least_numbers_keep_their_sign():
    values = np.array([[1.9e-43, -1.9e-43]], np.float32)
    stored, scales = quantize_channels(values, 0)
    assert stored.tolist() == [[127, -127]]
    assert np.abs(stored * scales - values).max() < 1e-43
