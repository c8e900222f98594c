"""Inputs and masks of other shapes: an error that says both shapes, from every layer."""

import keras
import numpy as np
import pytest

from ktransformer.layers import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    LayerNormalization,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
    PositionalEmbedding,
)
from ktransformer.models import Decoder, Encoder
from tests.layers.layer_checks import array, normal

B, T, S, D = 2, 5, 6, 8
WRONG_MASKS = [(B, T, T + 1), (B, 1, T), (B, 1, 1, T), (T,), (B, T + 1), (B + 1, T)]
every_wrong_mask = pytest.mark.parametrize("shape", WRONG_MASKS, ids=str)


def encoder_block():
    return EncoderBlock(2, 16)


def decoder_block():
    return DecoderBlock(2, 16)


OF_ONE = [lambda: MultiHeadSelfAttention(2), encoder_block, lambda: Encoder([encoder_block()])]
OF_TWO = [lambda: MultiHeadCrossAttention(2), decoder_block, lambda: Decoder([decoder_block()])]


def both_shapes(*shapes):
    return ".*".join(str(shape).replace("(", r"\(").replace(")", r"\)") for shape in shapes)


@every_wrong_mask
@pytest.mark.parametrize("make", OF_ONE)
def test_a_mask_of_another_shape_is_refused(make, shape):
    with pytest.raises(ValueError, match=both_shapes(shape, (B, T, D))):
        make()(normal(B, T, D), mask=np.ones(shape, bool))


@every_wrong_mask
@pytest.mark.parametrize("make", OF_TWO)
def test_a_mask_of_the_memory_of_another_shape_is_refused(make, shape):
    with pytest.raises(ValueError, match=r"memory_mask.*" + both_shapes(shape, (B, T, D))):
        make()(normal(B, S, D), normal(B, T, D), memory_mask=np.ones(shape, bool))


@every_wrong_mask
@pytest.mark.parametrize("make", OF_TWO[1:])
def test_a_mask_of_the_targets_of_another_shape_is_refused(make, shape):
    with pytest.raises(ValueError, match=both_shapes(shape, (B, T, D))):
        make()(normal(B, T, D), normal(B, S, D), inputs_mask=np.ones(shape, bool))


def test_a_symbolic_mask_of_another_shape_is_refused():
    inputs, mask = keras.Input((T, D)), keras.Input((T, D), dtype="bool")
    with pytest.raises(ValueError, match=both_shapes((None, T, D), (None, T, D))):
        encoder_block()(inputs, mask=mask)


@pytest.mark.parametrize("make", OF_TWO)
def test_a_mask_of_the_memory_has_no_pairs(make):
    with pytest.raises(ValueError, match="memory_mask.*" + both_shapes((B, T, T), (B, T, D))):
        make()(normal(B, S, D), normal(B, T, D), memory_mask=np.ones((B, T, T), bool))


def test_a_mask_of_pairs_says_what_each_position_sees():
    block, inputs = encoder_block(), normal(B, T, D)
    texts = np.array([0, 0, 1, 1, 1])
    pairs = np.repeat(texts[None, :, None] == texts[None, None, :], B, axis=0)
    outputs = array(block(inputs, mask=pairs))
    for text in (slice(0, 2), slice(2, 5)):
        np.testing.assert_allclose(outputs[:, text], array(block(inputs[:, text])), atol=1e-5)


def test_one_mask_serves_every_row():
    block, inputs, mask = encoder_block(), normal(B, T, D), np.array([[True] * 3 + [False] * 2])
    np.testing.assert_allclose(
        array(block(inputs, mask=mask)),
        array(block(inputs, mask=np.repeat(mask, B, axis=0))),
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(T, D), (1, B, T, D)], ids=str)
@pytest.mark.parametrize("make", [*OF_ONE, *OF_TWO])
def test_vectors_with_another_number_of_axes_are_refused(make, shape):
    memory = [normal(B, S, D)] if make in OF_TWO else []
    with pytest.raises(ValueError, match=rf"ndim=3.*{both_shapes(shape)}"):
        make()(normal(*shape), *memory)


@pytest.mark.parametrize("make", OF_TWO)
def test_a_memory_with_another_number_of_axes_is_refused(make):
    with pytest.raises(ValueError, match=rf"memory .*\[B, S, D\].*{both_shapes((S, D))}"):
        make()(normal(B, T, D), normal(S, D))


@pytest.mark.parametrize("make", [*OF_ONE, lambda: FeedForward(16), LayerNormalization])
@pytest.mark.parametrize("training", [False, True])
def test_vectors_of_another_width_are_refused(make, training):
    layer = make()
    layer(normal(B, T, D))
    with pytest.raises(ValueError, match=f"value {D}, .*{both_shapes((B, T, 4))}"):
        layer(normal(B, T, 4), training=training)


@pytest.mark.parametrize("make", [*OF_ONE, lambda: FeedForward(16)])
def test_two_tensors_for_one_are_refused(make):
    with pytest.raises(ValueError, match=r"expects 1 input\(s\).* 2 input tensors"):
        make()((normal(B, T, D), normal(B, T, D)))


@pytest.mark.parametrize("shape", [(T,), (1, B, T)], ids=str)
def test_ids_with_another_number_of_axes_are_refused(shape):
    with pytest.raises(ValueError, match=rf"\[B, T\].*{both_shapes(shape)}"):
        PositionalEmbedding(13, D, max_length=T)(np.ones(shape, "int32"))
