"""Rounds weights to int8, with a scale for each channel."""

import numpy as np


def quantize_channels(values: np.ndarray, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Rounds each channel to 255 steps between plus and minus its greatest value.

    Args:
        values: Float32, of any number of axes.
        channel: The axis of the channels.

    Returns:
        Int8, of the shape of `values`, and the channels' scales, float32, with 1 for every other
        axis: their product is about `values`.
    """
    others = tuple(axis for axis in range(values.ndim) if axis != channel)
    scales = np.abs(values).max(axis=others, keepdims=True) / 127
    scales = np.where(scales == 0, 1, scales).astype(np.float32)
    # Of numbers near the least of float32 the scale is not exact, and the quotient may be over 127.
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales
