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
        ({"attention_dropout": 1.0}, "attention_dropout=1.0"),
        ({"hidden_dropout": -0.5}, "hidden_dropout=-0.5"),
    ],
)
def test_a_dropout_outside_its_range_is_an_error(options, message, make_block):
    with pytest.raises(ValueError, match=message):
        make_block(**options)


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(ValueError, match="d_model=8, num_heads=3"):
        EncoderBlock(3, 16).build((None, None, D))


def test_a_decoder_block_without_a_memory_has_no_cross_attention():
    block = built(DecoderBlock(2, 16), (None, None, D))
    encoder_block = make_encoder_block()
    assert block.cross_attention is None
    assert block.count_params() == encoder_block.count_params()


@both_norm_orders
def test_a_decoder_block_without_a_memory_is_a_causal_encoder_block(norm_first):
    class CausalBlock(EncoderBlock):
        causal = True

    block = built(DecoderBlock(2, 16, norm_first=norm_first), (None, None, D))
    causal = CausalBlock(2, 16, norm_first=norm_first)
    causal.build((None, None, D))
    causal.set_weights(block.get_weights())
    inputs = normal(B, T, D)
    outputs = array(block(inputs, inputs_mask=MASK))
    np.testing.assert_array_equal(outputs, array(causal(inputs, mask=MASK)))


def test_a_decoder_block_without_a_memory_takes_the_mask_of_its_inputs():
    inputs = keras.layers.Masking()(np.where(MASK[..., None], normal(B, T, D), 0))
    block = built(DecoderBlock(2, 16), (None, None, D))
    expected = array(block(array(inputs), inputs_mask=MASK))
    np.testing.assert_array_equal(array(block(inputs)), expected)


@both_norm_orders
def test_steps_without_a_memory_equal_the_full_call(norm_first):
    block, inputs = (
        built(DecoderBlock(2, 16, norm_first=norm_first), (None, None, D)),
        normal(B, T, D),
    )
    expected = array(block(inputs))
    cache, penalty = block.self_attention.empty_cache(B, T), MaskPenalty.all_hidden(B, T)
    for index in range(T):
        at = StepContext.at(index, penalty)
        outputs, cache = block.step(inputs[:, index : index + 1], cache, None, at)
        penalty = at.penalty
        np.testing.assert_allclose(array(outputs)[:, 0], expected[:, index], atol=1e-5)


@pytest.mark.parametrize("with_memory", [True, False])
def test_a_memory_that_does_not_fit_the_block_is_refused(with_memory):
    shapes = [(None, None, D)] * (2 if with_memory else 1)
    block, memory = built(DecoderBlock(2, 16), *shapes), normal(B, S, D)
    with pytest.raises(ValueError, match="memory"):
        block(normal(B, T, D), *([] if with_memory else [memory]))


def test_one_override_changes_every_residual_connection_and_the_step():
    class Halved(DecoderBlock):
        def residual(self, name, sublayer, inputs, training=False):
            return super().residual(name, sublayer, 0.5 * inputs, training)

    block = built(Halved(2, 16, norm_first=True), (None, None, D), (None, None, D))
    inputs, memory = normal(B, 1, D), normal(B, S, D, seed=1)
    for part in (block.self_attention, block.cross_attention, block.feed_forward):
        part.output_projection.kernel.assign(0 * part.output_projection.kernel)
        part.output_projection.bias.assign(0 * part.output_projection.bias)
    np.testing.assert_allclose(array(block(inputs, memory)), inputs / 8, rtol=1e-6)
    penalty = MaskPenalty.all_hidden(B, 1)
    at = StepContext.at(0, penalty, memory_mask_penalty(np.ones((B, S), bool)))
    key_values = block.cross_attention.project_memory(memory, np.ones((B, S), bool))
    outputs, _ = block.step(inputs, block.self_attention.empty_cache(B, 1), key_values, at)
    np.testing.assert_allclose(array(outputs), inputs / 8, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["make_self_attention", "make_cross_attention", "make_feed_forward", "make_norm"]
)
def test_a_maker_that_returns_no_layer_is_named(name):
    class Unfinished(DecoderBlock):
        pass

    setattr(Unfinished, name, lambda self, *arguments: None)
    with pytest.raises(TypeError, match=rf"Unfinished\.{name} must return a keras.*; got None"):
        built(Unfinished(2, 16), (None, None, D), (None, None, D))
