"""Fewer heads of keys and values than of queries."""

import keras
import numpy as np
import pytest

from ktransformer.layers import MultiHeadCrossAttention, MultiHeadSelfAttention
from tests.layers.attention_runs import stepwise_and_whole
from tests.layers.layer_checks import POLICIES, TOLERANCE, array, built, check_layer, normal
from tests.layers.small_attention import step_over

B, T, S, D, H = 2, 5, 6, 16, 4
SHAPE = (None, None, D)
MEMORY_MASK = np.array([[True, False, True, True, True, False], [False] * 6])
FEWER = pytest.mark.parametrize("num_kv_heads", [1, 2])


def repeat_heads(weights, num_kv_heads, heads):
    """Repeats each of `heads` blocks of features after the queries' as often as it is shared."""
    size = D // H
    parts = np.split(weights, weights.shape[-1] // size, axis=-1)
    before = len(parts) - heads
    shared = [part for part in parts[before:] for _ in range(H // num_kv_heads)]
    return np.concatenate([*parts[:before], *shared], axis=-1)


@FEWER
def test_self_attention_equals_one_whose_heads_are_repeated(num_kv_heads):
    layer = built(MultiHeadSelfAttention(H, num_kv_heads=num_kv_heads, causal=True), SHAPE)
    whole = built(MultiHeadSelfAttention(H, causal=True), SHAPE)
    kernel, bias, *output = layer.get_weights()
    repeated = [repeat_heads(part, num_kv_heads, 2 * num_kv_heads) for part in (kernel, bias)]
    whole.set_weights([*repeated, *output])
    inputs, mask = normal(B, T, D), np.array([[True] * 4 + [False], [False] * 5])
    np.testing.assert_allclose(
        array(layer(inputs, mask=mask)), array(whole(inputs, mask=mask)), atol=1e-5
    )
    np.testing.assert_allclose(
        array(layer.attention_weights(inputs)), array(whole.attention_weights(inputs)), atol=1e-5
    )


@FEWER
def test_cross_attention_equals_one_whose_heads_are_repeated(num_kv_heads):
    layer = built(MultiHeadCrossAttention(H, num_kv_heads=num_kv_heads), SHAPE, SHAPE)
    whole = built(MultiHeadCrossAttention(H), SHAPE, SHAPE)
    *query, kernel, bias, output_kernel, output_bias = layer.get_weights()
    repeated = [repeat_heads(part, num_kv_heads, 2 * num_kv_heads) for part in (kernel, bias)]
    whole.set_weights([*query, *repeated, output_kernel, output_bias])
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    np.testing.assert_allclose(
        array(layer(inputs, memory, memory_mask=MEMORY_MASK)),
        array(whole(inputs, memory, memory_mask=MEMORY_MASK)),
        atol=1e-5,
    )


@pytest.mark.parametrize("policy", POLICIES)
@FEWER
def test_steps_equal_whole_calls(num_kv_heads, policy):
    options = {"num_kv_heads": num_kv_heads, "dtype": policy}
    layer = built(MultiHeadSelfAttention(H, causal=True, **options), SHAPE)
    stepwise, whole = stepwise_and_whole(layer, normal(B, 4, 2, D), chunked=True)
    np.testing.assert_allclose(stepwise, whole, atol=TOLERANCE[policy])
    cross = built(MultiHeadCrossAttention(H, **options), SHAPE, SHAPE)
    inputs, memory = normal(B, 3, D), normal(B, S, D, seed=1)
    np.testing.assert_allclose(
        step_over(cross, inputs, memory, MEMORY_MASK),
        array(cross(inputs, memory, memory_mask=MEMORY_MASK)),
        atol=TOLERANCE[policy],
    )


def count_bytes(tensors):
    return sum(array(part).size * 4 for part in keras.tree.flatten(tensors))


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_cache_and_a_memory_hold_the_fewer_heads_alone(num_kv_heads, chunked):
    layer = built(MultiHeadSelfAttention(H, num_kv_heads=num_kv_heads, causal=True), SHAPE)
    cache = layer.empty_cache(3, 10, beam_size=2, chunked=chunked)
    positions = 10 + chunked  # The past begins with a position nobody sees.
    # Sentences, hypotheses, positions, heads of D / H = 4 features, key and value, of 4 bytes.
    assert count_bytes(cache) == 3 * 2 * positions * num_kv_heads * 4 * 2 * 4
    cross = built(MultiHeadCrossAttention(H, num_kv_heads=num_kv_heads), SHAPE, SHAPE)
    memory = cross.project_memory(normal(3, S, D), np.ones((3, S), bool))
    assert count_bytes(memory) == 3 * S * num_kv_heads * 4 * 2 * 4


@pytest.mark.parametrize("layer_class", [MultiHeadSelfAttention, MultiHeadCrossAttention])
def test_as_many_heads_are_the_default_and_have_its_weights(layer_class):
    shapes = [SHAPE] if layer_class is MultiHeadSelfAttention else [SHAPE, SHAPE]
    layer, plain = (
        built(layer_class(H, **options), *shapes) for options in ({"num_kv_heads": H}, {})
    )
    assert [weight.shape for weight in layer.weights] == [weight.shape for weight in plain.weights]
    assert layer.get_config()["num_kv_heads"] == plain.get_config()["num_kv_heads"] == H


def test_fewer_heads_keep_the_layer_contract(tmp_path):
    check_layer(
        lambda policy: MultiHeadCrossAttention(H, num_kv_heads=2, dtype=policy),
        [normal(B, T, D), normal(B, S, D, seed=1)],
        (B, T, D),
        tmp_path,
    )


@pytest.mark.parametrize("num_kv_heads", [0, 3, 8])
def test_a_number_that_does_not_divide_the_heads_is_an_error(num_kv_heads):
    with pytest.raises(ValueError, match=f"num_kv_heads.*{num_kv_heads}"):
        MultiHeadSelfAttention(H, num_kv_heads=num_kv_heads)
