"""Small attention layers, built, with masks for their inputs and their memory."""

import keras
import numpy as np

from ktransformer.layers import (
    MaskPenalty,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
    StepContext,
)
from ktransformer.layers.cache import memory_mask_penalty
from tests.layers.layer_checks import array, built

B, T, S, D, H = 2, 5, 6, 8, 2
# A pad in the middle as well as at the end.
MASK = np.array([[True, True, False, True, False], [True, True, True, True, True]])
MEMORY_MASK = np.array([[True, False, True, True, True, False], [True] * 4 + [False] * 2])


def make_self_attention(**options):
    return built(MultiHeadSelfAttention(H, **options), (None, None, D))


def make_cross_attention(**options):
    return built(MultiHeadCrossAttention(H, **options), (None, None, D), (None, None, D))


def step_over(layer, inputs, memory, mask):
    """Runs one step of cross-attention over a memory."""
    vectors = keras.ops.convert_to_tensor(memory, layer.compute_dtype)
    penalty = MaskPenalty.all_hidden(len(inputs), 1, beam_size=inputs.shape[1])
    at = StepContext.at(0, penalty, memory_mask_penalty(mask))
    return array(layer.step(inputs, layer.project_memory(vectors, mask), at))
