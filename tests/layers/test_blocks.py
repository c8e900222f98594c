import keras
import numpy as np
import pytest

from ktransformer.layers import DecoderBlock, EncoderBlock, MaskPenalty, StepContext
from ktransformer.layers.cache import memory_mask_penalty
from tests.layers.layer_checks import (
    POLICIES,
    TOLERANCE,
    array,
    built,
    check_layer,
    normal,
    with_same_noise,
)

B, T, S, D = 2, 5, 6, 8
MASK = np.array([[True, True, False, True, False], [True, True, True, True, True]])
MEMORY_MASK = np.array([[True, False, True, True, True, False], [True] * 4 + [False] * 2])
both_norm_orders = pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
every_policy = pytest.mark.parametrize("policy", POLICIES)


def make_encoder_block(**options):
    return built(EncoderBlock(2, 16, **options), (None, None, D))


def make_decoder_block(**options):
    return built(DecoderBlock(2, 16, **options), (None, None, D), (None, None, D))


def corrupt_padding(vectors, mask):
    return np.where(mask[..., None], vectors, 7 * normal(*vectors.shape, seed=5))


def add_sublayer(hidden, sublayer, norm, norm_first):
    """Computes `x + f(norm(x))` or `norm(x + f(x))`."""
    if norm_first:
        return hidden + sublayer(norm(hidden))
    return norm(hidden + sublayer(hidden))


@both_norm_orders
def test_encoder_block_keeps_the_layer_contract(norm_first, tmp_path):
    check_layer(
        lambda policy: EncoderBlock(
            2, 16, norm_first=norm_first, activation="gelu", epsilon=1e-4, dtype=policy
        ),
        [normal(B, T, D)],
        (B, T, D),
        tmp_path,
    )


@both_norm_orders
def test_decoder_block_keeps_the_layer_contract(norm_first, tmp_path):
    check_layer(
        lambda policy: DecoderBlock(2, 16, norm_first=norm_first, dtype=policy),
        [normal(B, T, D), normal(B, S, D, seed=1)],
        (B, T, D),
        tmp_path,
    )


@both_norm_orders
def test_an_encoder_block_is_two_sublayers_with_residuals_and_norms(norm_first):
    block = make_encoder_block(norm_first=norm_first)
    inputs = keras.ops.convert_to_tensor(normal(B, T, D))
    hidden = inputs
    for sublayer, norm in (
        (block.self_attention, block.self_attention_norm),
        (block.feed_forward, block.feed_forward_norm),
    ):
        hidden = add_sublayer(hidden, sublayer, norm, norm_first)
    np.testing.assert_allclose(array(block(inputs)), array(hidden), atol=1e-6)


@both_norm_orders
def test_a_decoder_block_is_three_sublayers_with_residuals_and_norms(norm_first):
    block = make_decoder_block(norm_first=norm_first)
    inputs = keras.ops.convert_to_tensor(normal(B, T, D))
    memory = normal(B, S, D, seed=1)
    hidden = inputs
    for sublayer, norm in (
        (block.self_attention, block.self_attention_norm),
        (lambda queries: block.cross_attention(queries, memory), block.cross_attention_norm),
        (block.feed_forward, block.feed_forward_norm),
    ):
        hidden = add_sublayer(hidden, sublayer, norm, norm_first)
    np.testing.assert_allclose(array(block(inputs, memory)), array(hidden), atol=1e-6)


@every_policy
@both_norm_orders
def test_padding_does_not_change_real_positions_of_an_encoder_block(norm_first, policy):
    block = make_encoder_block(norm_first=norm_first, dtype=policy)
    inputs = normal(B, T, D)
    expected = array(block(inputs, mask=MASK))
    outputs = array(block(corrupt_padding(inputs, MASK), mask=MASK))
    np.testing.assert_allclose(outputs[MASK], expected[MASK], atol=TOLERANCE[policy])


@every_policy
@both_norm_orders
def test_padding_does_not_change_real_positions_of_a_decoder_block(norm_first, policy):
    block = make_decoder_block(norm_first=norm_first, dtype=policy)
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    masks = {"inputs_mask": MASK, "memory_mask": MEMORY_MASK}
    expected = array(block(inputs, memory, **masks))
    outputs = array(
        block(corrupt_padding(inputs, MASK), corrupt_padding(memory, MEMORY_MASK), **masks)
    )
    np.testing.assert_allclose(outputs[MASK], expected[MASK], atol=TOLERANCE[policy])


@both_norm_orders
def test_padding_gets_no_weight_in_either_block(norm_first):
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    encoder_block = make_encoder_block(norm_first=norm_first)
    weights = array(encoder_block.attention_weights(inputs, MASK))
    np.testing.assert_array_equal(
        weights > 0, np.broadcast_to(MASK[:, None, None, :], weights.shape)
    )
    decoder_block = make_decoder_block(norm_first=norm_first)
    weights = array(decoder_block.cross_attention_weights(inputs, memory, MASK, MEMORY_MASK))
    np.testing.assert_array_equal(
        weights > 0, np.broadcast_to(MEMORY_MASK[:, None, None, :], weights.shape)
    )


@both_norm_orders
def test_the_self_attention_weights_are_those_that_the_encoder_block_uses(norm_first):
    block = make_encoder_block(norm_first=norm_first)
    inputs = keras.ops.convert_to_tensor(normal(B, T, D))
    seen = block.self_attention_norm(inputs) if norm_first else inputs
    expected = block.self_attention.attention_weights(seen, MASK)
    np.testing.assert_allclose(
        array(block.attention_weights(inputs, MASK)), array(expected), atol=1e-6
    )


@pytest.mark.parametrize("training", [False, True])
@both_norm_orders
def test_the_future_does_not_leak_through_a_decoder_block(norm_first, training):
    block = make_decoder_block(
        norm_first=norm_first, dropout=0.3, attention_dropout=0.3, hidden_dropout=0.3
    )
    memory = normal(B, S, D, seed=1)
    call = with_same_noise(block, lambda inputs: block(inputs, memory, training=training))
    inputs = normal(B, T, D)
    changed = inputs.copy()
    changed[:, 3:] = 7 * normal(B, T - 3, D, seed=3)
    expected, outputs = call(inputs), call(changed)
    np.testing.assert_allclose(outputs[:, :3], expected[:, :3], atol=1e-6)
    assert np.abs(outputs[:, 3:] - expected[:, 3:]).max() > 1e-3


@every_policy
@both_norm_orders
def test_a_sentence_of_padding_alone_is_finite(norm_first, policy):
    nothing = np.zeros((B, T), bool)
    encoder_block = make_encoder_block(norm_first=norm_first, dtype=policy)
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    assert np.all(np.isfinite(array(encoder_block(inputs, mask=nothing))))
    weights = array(encoder_block.attention_weights(inputs, nothing))
    np.testing.assert_array_equal(weights, np.zeros_like(weights))
    decoder_block = make_decoder_block(norm_first=norm_first, dtype=policy)
    masks = {"inputs_mask": nothing, "memory_mask": np.zeros((B, S), bool)}
    assert np.all(np.isfinite(array(decoder_block(inputs, memory, **masks))))
    weights = array(decoder_block.cross_attention_weights(inputs, memory, *masks.values()))
    np.testing.assert_array_equal(weights, np.zeros_like(weights))


@every_policy
@both_norm_orders
def test_steps_through_the_cache_equal_the_full_call(norm_first, policy):
    block = make_decoder_block(norm_first=norm_first, dtype=policy)
    dtype = block.compute_dtype
    inputs = keras.ops.convert_to_tensor(normal(B, T, D), dtype)
    memory = keras.ops.convert_to_tensor(normal(B, S, D, seed=1), dtype)
    expected = array(block(inputs, memory, memory_mask=MEMORY_MASK))
    cache, penalty = block.self_attention.empty_cache(B, T), MaskPenalty.all_hidden(B, T)
    key_values = block.cross_attention.project_memory(memory, MEMORY_MASK)
    for index in range(T):
        at = StepContext.at(index, penalty, memory_mask_penalty(MEMORY_MASK))
        outputs, cache = block.step(inputs[:, index : index + 1], cache, key_values, at)
        penalty = at.penalty
        np.testing.assert_allclose(array(outputs)[:, 0], expected[:, index], atol=TOLERANCE[policy])


def test_the_mask_passes_through_both_blocks():
    inputs = keras.layers.Masking()(np.where(MASK[..., None], normal(B, T, D), 0))
    memory = keras.layers.Masking()(np.where(MEMORY_MASK[..., None], normal(B, S, D, seed=1), 0))
    encoder_block, decoder_block = make_encoder_block(), make_decoder_block()
    outputs = encoder_block(inputs)
    np.testing.assert_array_equal(array(outputs._keras_mask), MASK)
    np.testing.assert_array_equal(array(outputs), array(encoder_block(array(inputs), mask=MASK)))
    outputs = decoder_block(inputs, memory)
    np.testing.assert_array_equal(array(outputs._keras_mask), MASK)
    expected = decoder_block(
        array(inputs), array(memory), inputs_mask=MASK, memory_mask=MEMORY_MASK
    )
    np.testing.assert_array_equal(array(outputs), array(expected))


@pytest.mark.parametrize("make_block", [make_encoder_block, make_decoder_block])
@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "hidden_dropout"])
def test_each_dropout_acts_in_training_alone(rate, make_block):
    block = make_block(**{rate: 0.5})
    arguments = [normal(B, T, D)]
    if isinstance(block, DecoderBlock):
        arguments.append(normal(B, S, D, seed=1))
    still = array(block(*arguments, training=False))
    np.testing.assert_array_equal(array(block(*arguments)), still)
    assert np.abs(array(block(*arguments, training=True)) - still).max() > 1e-3


@pytest.mark.parametrize("make_block", [make_encoder_block, make_decoder_block])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"hidden_dropout": -0.5}, r"dropout must be in \[0, 1\)"),
    ],
)
def test_a_dropout_outside_its_range_is_an_error(options, message, make_block):
    with pytest.raises(ValueError, match=message):
        make_block(**options)


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(ValueError, match="d_model must be a multiple of num_heads"):
        EncoderBlock(3, 16).build((None, None, D))
