import keras
import numpy as np
import pytest

from ktransformer.layers import MultiHeadCrossAttention, MultiHeadSelfAttention
from tests.layers.layer_checks import (
    MODES,
    POLICIES,
    TOLERANCE,
    array,
    check_layer,
    compiled,
    normal,
    with_same_noise,
)
from tests.layers.small_attention import (
    MASK,
    MEMORY_MASK,
    B,
    D,
    H,
    S,
    T,
    make_cross_attention,
    make_self_attention,
    step_over,
)


def attend_by_loops(query, key, value, visible):
    """Computes attention a head and a position at a time, in float64.

    Returns the weights `[B, H, T, S]` and the joined heads `[B, T, D]`.
    """
    weights = np.zeros((len(query), H, query.shape[1], key.shape[1]))
    joined = np.zeros(query.shape)
    size = D // H
    for b, h, t in np.ndindex(len(query), H, query.shape[1]):
        part = slice(h * size, (h + 1) * size)
        seen = np.flatnonzero(visible[b, t])
        if len(seen):
            scores = key[b, seen, part] @ query[b, t, part] / np.sqrt(size)
            weights[b, h, t, seen] = np.exp(scores) / np.exp(scores).sum()
        joined[b, t, part] = weights[b, h, t] @ value[b, :, part]
    return weights, joined


def corrupt_padding(vectors, mask):
    """Puts large numbers at the padded positions."""
    return np.where(mask[..., None], vectors, 7 * normal(*vectors.shape, seed=5))


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_keeps_the_layer_contract(causal, tmp_path):
    check_layer(
        lambda policy: MultiHeadSelfAttention(
            H, causal=causal, kernel_initializer="he_normal", dtype=policy
        ),
        [normal(B, T, D)],
        (B, T, D),
        tmp_path,
    )


@pytest.mark.parametrize("use_bias", [False, True])
def test_cross_attention_keeps_the_layer_contract(use_bias, tmp_path):
    check_layer(
        lambda policy: MultiHeadCrossAttention(H, use_bias=use_bias, dtype=policy),
        [normal(B, T, D), normal(B, S, D, seed=1)],
        (B, T, D),
        tmp_path,
    )


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_equals_attention_by_loops(causal):
    layer = make_self_attention(causal=causal)
    inputs = normal(B, T, D)
    kernel, bias, output_kernel, output_bias = layer.get_weights()
    query, key, value = np.split((inputs @ kernel + bias).astype("float64"), 3, axis=-1)
    visible = MASK[:, None, :] & (np.tri(T, dtype=bool) if causal else np.ones((T, T), bool))
    weights, joined = attend_by_loops(query, key, value, visible)
    np.testing.assert_allclose(
        array(layer.attention_weights(inputs, mask=MASK)), weights, atol=1e-5
    )
    np.testing.assert_allclose(
        array(layer(inputs, mask=MASK)), joined @ output_kernel + output_bias, atol=1e-5
    )


def test_cross_attention_equals_attention_by_loops():
    layer = make_cross_attention()
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    query_kernel, query_bias, kernel, bias, output_kernel, output_bias = layer.get_weights()
    query = (inputs @ query_kernel + query_bias).astype("float64")
    key, value = np.split((memory @ kernel + bias).astype("float64"), 2, axis=-1)
    visible = np.repeat(MEMORY_MASK[:, None, :], T, axis=1)
    weights, joined = attend_by_loops(query, key, value, visible)
    np.testing.assert_allclose(
        array(layer.attention_weights(inputs, memory, MEMORY_MASK)), weights, atol=1e-5
    )
    np.testing.assert_allclose(
        array(layer(inputs, memory, memory_mask=MEMORY_MASK)),
        joined @ output_kernel + output_bias,
        atol=1e-5,
    )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_change_real_positions(causal, policy):
    layer = make_self_attention(causal=causal, dtype=policy)
    inputs = normal(B, T, D)
    expected = array(layer(inputs, mask=MASK))
    outputs = array(layer(corrupt_padding(inputs, MASK), mask=MASK))
    np.testing.assert_allclose(outputs[MASK], expected[MASK], atol=TOLERANCE[policy])


@pytest.mark.parametrize("policy", POLICIES)
def test_padding_gets_no_weight(policy):
    layer = make_self_attention(dtype=policy)
    weights = array(layer.attention_weights(normal(B, T, D), mask=MASK))
    seen = np.broadcast_to(MASK[:, None, None, :], weights.shape)
    np.testing.assert_array_equal(weights > 0, seen)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=TOLERANCE[policy])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("path", ["call", "step"])
def test_padded_memory_does_not_change_the_outputs(path, policy):
    layer = make_cross_attention(dtype=policy)
    inputs, memory = normal(B, 1, D), normal(B, S, D, seed=1)

    def attend(memory):
        if path == "call":
            return array(layer(inputs, memory, memory_mask=MEMORY_MASK))
        return step_over(layer, inputs, memory, MEMORY_MASK)

    np.testing.assert_allclose(
        attend(corrupt_padding(memory, MEMORY_MASK)), attend(memory), atol=TOLERANCE[policy]
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_padded_memory_gets_no_weight(policy):
    layer = make_cross_attention(dtype=policy)
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    weights = array(layer.attention_weights(inputs, memory, MEMORY_MASK))
    seen = np.broadcast_to(MEMORY_MASK[:, None, None, :], weights.shape)
    np.testing.assert_array_equal(weights > 0, seen)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [False, True])
def test_the_future_does_not_leak(training, mode):
    layer = make_self_attention(causal=True, dropout=0.4)
    attend = with_same_noise(layer, compiled(lambda inputs: layer(inputs, training=training), mode))
    inputs = normal(B, T, D)
    expected = attend(inputs)
    for t in range(1, T):
        changed = inputs.copy()
        changed[:, t:] = 7 * normal(B, T - t, D, seed=t)
        outputs = attend(changed)
        np.testing.assert_allclose(outputs[:, :t], expected[:, :t], atol=1e-6)
        assert np.abs(outputs[:, t:] - expected[:, t:]).max() > 1e-3


@pytest.mark.parametrize("policy", POLICIES)
def test_the_future_gets_no_weight(policy):
    layer = make_self_attention(causal=True, dtype=policy)
    weights = array(layer.attention_weights(normal(B, T, D)))
    past = np.broadcast_to(np.tri(T, dtype=bool), weights.shape)
    np.testing.assert_array_equal(weights > 0, past)


def test_without_causality_every_position_sees_every_other():
    weights = array(make_self_attention().attention_weights(normal(B, T, D)))
    assert np.all(weights > 0)


def test_dropout_changes_the_outputs_in_training_alone():
    layer = make_self_attention(dropout=0.5)
    inputs = normal(B, T, D)
    still = array(layer(inputs, training=False))
    np.testing.assert_array_equal(array(layer(inputs)), still)
    assert np.abs(array(layer(inputs, training=True)) - still).max() > 1e-3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_sentence_of_padding_alone_gives_the_output_bias(policy, mode):
    layer = make_self_attention(dtype=policy)
    mask = np.array([[False] * T, [True] * T])
    outputs = array(compiled(lambda inputs: layer(inputs, mask=mask), mode)(normal(B, T, D)))
    bias = np.broadcast_to(layer.get_weights()[-1], (T, D))
    np.testing.assert_allclose(outputs[0], bias, rtol=TOLERANCE[policy], atol=1e-6)
    assert np.all(np.isfinite(outputs))
    weights = array(layer.attention_weights(normal(B, T, D), mask=mask))
    np.testing.assert_array_equal(weights[0], np.zeros((H, T, T)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("path", ["call", "step"])
def test_a_memory_of_padding_alone_gives_the_output_bias(path, policy):
    layer = make_cross_attention(dtype=policy)
    memory = normal(B, S, D)
    inputs, mask = normal(B, 1, D, seed=1), np.zeros((B, S), bool)
    if path == "call":
        outputs = layer(inputs, memory, memory_mask=mask)
    else:
        outputs = step_over(layer, inputs, memory, mask)
    bias = np.broadcast_to(layer.get_weights()[-1], (B, 1, D))
    np.testing.assert_allclose(array(outputs), bias, rtol=TOLERANCE[policy], atol=1e-6)
    weights = array(layer.attention_weights(inputs, memory, mask))
    np.testing.assert_array_equal(weights, np.zeros((B, H, 1, S)))


def test_self_attention_takes_the_mask_that_keras_carries():
    layer = make_self_attention()
    inputs = np.where(MASK[..., None], normal(B, T, D), 0)
    outputs = layer(keras.layers.Masking()(inputs))
    np.testing.assert_array_equal(array(outputs), array(layer(inputs, mask=MASK)))
    np.testing.assert_array_equal(array(outputs._keras_mask), MASK)


def test_cross_attention_takes_the_memory_mask_and_passes_the_inputs_mask_on():
    layer = make_cross_attention()
    inputs = np.where(MASK[..., None], normal(B, T, D), 0)
    memory = np.where(MEMORY_MASK[..., None], normal(B, S, D, seed=1), 0)
    outputs = layer(keras.layers.Masking()(inputs), keras.layers.Masking()(memory))
    expected = layer(inputs, memory, memory_mask=MEMORY_MASK)
    np.testing.assert_array_equal(array(outputs), array(expected))
    np.testing.assert_array_equal(array(outputs._keras_mask), MASK)


@pytest.mark.parametrize("layer_class", [MultiHeadSelfAttention, MultiHeadCrossAttention])
class TestInvalidArguments:
    def test_num_heads_below_one_is_an_error(self, layer_class):
        with pytest.raises(ValueError, match="num_heads=0"):
            layer_class(0)

    @pytest.mark.parametrize("dropout", [-0.1, 1.0])
    def test_dropout_outside_its_range_is_an_error(self, layer_class, dropout):
        with pytest.raises(ValueError, match=rf"\[0, 1\).* dropout={dropout}"):
            layer_class(2, dropout=dropout)

    def test_a_width_that_the_heads_do_not_divide_is_an_error(self, layer_class):
        layer, vectors = layer_class(3), normal(B, T, D)
        arguments = [vectors] if layer_class is MultiHeadSelfAttention else [vectors, vectors]
        with pytest.raises(ValueError, match="d_model=8, num_heads=3"):
            layer(*arguments)
