"""The blocks against PyTorch's layers; parity/make_pytorch_parity.py wrote the numbers."""

from pathlib import Path

import numpy as np
import pytest

from ktransformer.layers import DecoderBlock, EncoderBlock, MaskPenalty, StepContext
from ktransformer.layers.cache import memory_mask_penalty
from tests.layers.layer_checks import array
from tests.layers.pytorch_weights import (
    set_cross_attention,
    set_feed_forward,
    set_norms,
    set_self_attention,
)

HEADS, HIDDEN = 2, 16
both_norm_orders = pytest.mark.parametrize("order", ["post", "pre"])


@pytest.fixture(scope="module")
def arrays():
    with np.load(Path(__file__).parent / "parity" / "pytorch.npz") as stored:
        return dict(stored)


def weights_of(arrays, layer, order):
    prefix = f"{layer}/{order}/weights/"
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def make_encoder_block(arrays, order):
    weights = weights_of(arrays, "encoder", order)
    block = EncoderBlock(HEADS, HIDDEN, norm_first=order == "pre")
    block.build(arrays["inputs"].shape)
    set_self_attention(block.self_attention, weights)
    set_feed_forward(block.feed_forward, weights)
    set_norms([block.self_attention_norm, block.feed_forward_norm], weights)
    return block


def make_decoder_block(arrays, order):
    weights = weights_of(arrays, "decoder", order)
    block = DecoderBlock(HEADS, HIDDEN, norm_first=order == "pre")
    block.build(arrays["inputs"].shape, arrays["memory"].shape)
    set_self_attention(block.self_attention, weights)
    set_cross_attention(block.cross_attention, weights)
    set_feed_forward(block.feed_forward, weights)
    norms = [block.self_attention_norm, block.cross_attention_norm, block.feed_forward_norm]
    set_norms(norms, weights)
    return block


@both_norm_orders
def test_an_encoder_block_equals_pytorch_at_real_positions(arrays, order):
    outputs = make_encoder_block(arrays, order)(arrays["inputs"], mask=arrays["mask"])
    real = arrays["mask"]
    np.testing.assert_allclose(
        array(outputs)[real], arrays[f"encoder/{order}/outputs"][real], rtol=0, atol=1e-5
    )


@both_norm_orders
def test_a_decoder_block_equals_pytorch_at_real_positions(arrays, order):
    outputs = make_decoder_block(arrays, order)(
        arrays["inputs"],
        arrays["memory"],
        inputs_mask=arrays["mask"],
        memory_mask=arrays["memory_mask"],
    )
    real = arrays["mask"]
    np.testing.assert_allclose(
        array(outputs)[real], arrays[f"decoder/{order}/outputs"][real], rtol=0, atol=1e-5
    )


@both_norm_orders
def test_the_cached_steps_of_a_decoder_block_equal_pytorch(arrays, order):
    block = make_decoder_block(arrays, order)
    row = int(np.flatnonzero(arrays["mask"].all(axis=1))[0])  # A cache knows no padded targets.
    inputs, memory = arrays["inputs"][row : row + 1], arrays["memory"][row : row + 1]
    length, memory_mask = inputs.shape[1], arrays["memory_mask"][row : row + 1]
    key_values = block.cross_attention.project_memory(memory, memory_mask)
    cache, penalty = (
        block.self_attention.empty_cache(1, length),
        MaskPenalty.all_hidden(1, length),
    )
    for index in range(length):
        at = StepContext.at(index, penalty, memory_mask_penalty(memory_mask))
        outputs, cache = block.step(inputs[:, index : index + 1], cache, key_values, at)
        penalty = at.penalty
        np.testing.assert_allclose(
            array(outputs)[0, 0],
            arrays[f"decoder/{order}/outputs"][row, index],
            rtol=0,
            atol=1e-5,
        )
