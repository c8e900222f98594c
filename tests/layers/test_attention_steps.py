"""Self- and cross-attention a position at a time, through the cache and the memory."""

import keras
import numpy as np
import pytest
from keras import ops

from ktransformer.layers import (
    KeyValues,
    MaskPenalty,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
    StepContext,
    transpose_keys,
)
from tests.layers.attention_runs import stepwise_and_whole
from tests.layers.layer_checks import POLICIES, TOLERANCE, array, built, normal
from tests.layers.small_attention import (
    MEMORY_MASK,
    B,
    D,
    H,
    S,
    make_cross_attention,
    make_self_attention,
    step_over,
)


def step_by_step(layer, inputs, chunk, *, compiled=False):
    """Runs self-attention a position at a time, and makes room after every `chunk`."""
    room = {"chunked": chunk < 6}
    cache, penalty = (
        layer.empty_cache(B, chunk, **room),
        MaskPenalty.all_hidden(B, chunk, **room),
    )
    parts = []
    for index in range(6):
        if index and index % chunk == 0:
            cache, penalty = cache.flush(), penalty.flush()
        at = StepContext.at(index, penalty, compiled=compiled)
        outputs, cache = layer.step(inputs[:, index : index + 1], cache, at)
        penalty = at.penalty
        parts.append(array(outputs))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("chunk", [6, 2])
def test_steps_through_the_cache_equal_the_full_call(chunk, policy):
    layer = make_self_attention(causal=True, dtype=policy)
    inputs = normal(B, 6, D)
    np.testing.assert_allclose(
        step_by_step(layer, inputs, chunk), array(layer(inputs)), atol=TOLERANCE[policy]
    )


class TableAttention(MultiHeadSelfAttention):
    """Adds a number for each position of the keys, of which there are six."""

    def compute_scores(self, query, key, positions):
        assert np.all(array(positions.keys) >= 0)
        table = keras.ops.convert_to_tensor(normal(6, seed=3))
        return super().compute_scores(query, key, positions) + keras.ops.take(table, positions.keys)


@pytest.mark.parametrize("chunk", [4, 6, 8])
def test_a_step_knows_no_position_beyond_its_own(chunk):
    layer = built(TableAttention(H, causal=True), (None, None, D))
    inputs = normal(B, 6, D)
    np.testing.assert_allclose(step_by_step(layer, inputs, chunk), array(layer(inputs)), atol=1e-5)


@pytest.mark.parametrize("chunk", [6, 2])
@pytest.mark.parametrize("num_kv_heads", [None, 1])
def test_one_query_gives_the_same_by_sums_and_by_products(num_kv_heads, chunk, monkeypatch):
    layer = make_self_attention(causal=True, num_kv_heads=num_kv_heads)
    inputs, products, product = normal(B, 6, D), [], layer._product
    monkeypatch.setattr(layer, "_product", lambda *sides: products.append(1) or product(*sides))
    by_sums = step_by_step(layer, inputs, chunk)
    assert bool(products) == (num_kv_heads is not None)  # Heads that share keys have products.
    by_products = step_by_step(layer, inputs, chunk, compiled=True)
    assert products
    np.testing.assert_allclose(by_sums, by_products, atol=1e-6)
    assert StepContext.at(0, MaskPenalty.all_hidden(B, 4)).by_sums
    assert not StepContext.at(0, MaskPenalty.all_hidden(B, 4, beam_size=2)).by_sums


def test_keys_are_the_same_however_they_are_stored():
    first, second = (KeyValues(normal(B, H, n, 3), normal(B, H, n, 3, seed=n)) for n in (2, 5))
    both, transposed = first.append(second), first.transposed().append(second)
    assert both.key.shape == (B, H, 7, 3)
    assert transposed.key.shape == (B, H, 3, 7)
    np.testing.assert_array_equal(array(transposed.plain_key), array(both.plain_key))
    np.testing.assert_array_equal(array(transposed.value), array(both.value))
    assert transposed.transposed() is transposed
    memory = transpose_keys({"key_values": [first, second], "mask_penalty": normal(B)})
    assert [part.key.shape for part in memory["key_values"]] == [(B, H, 3, 2), (B, H, 3, 5)]
    np.testing.assert_array_equal(memory["mask_penalty"], normal(B))


@pytest.mark.parametrize(("rows", "length"), [(0, S), (B, 0)])
def test_a_step_of_no_sentence_or_over_no_key_is_what_a_call_gives(rows, length):
    layer = make_cross_attention()
    inputs, memory = normal(rows, 1, D), normal(rows, length, D)
    mask = np.ones((rows, length), bool)
    stepwise = step_over(layer, inputs, memory, mask)
    assert stepwise.shape == (rows, 1, D)
    np.testing.assert_allclose(stepwise, array(layer(inputs, memory, memory_mask=mask)), atol=1e-6)


def test_an_empty_cache_has_no_tensor_twice():
    tensors = keras.tree.flatten(make_self_attention(causal=True).empty_cache(B, 4, chunked=True))
    assert len({id(tensor) for tensor in tensors}) == 4  # JAX donates no buffer twice.


@pytest.mark.parametrize("chunked", [False, True])
def test_hypotheses_that_share_a_cache_see_their_own_ancestors_alone(chunked):
    layer = make_self_attention(causal=True)
    stepwise, whole = stepwise_and_whole(layer, normal(B, 4, 2, D), chunked=chunked)
    np.testing.assert_allclose(stepwise, whole, atol=1e-5)


def overriding(layer_class, method):
    """Makes a subclass that overrides one method, alike for calls and steps."""

    class Scores(layer_class):
        def compute_scores(self, query, key, positions):
            scores = super().compute_scores(query, key, positions)
            return 2 * ops.tanh(scores) * (1 + ops.cast(positions.keys, scores.dtype))

    class Weights(layer_class):
        def compute_weights(self, scores):
            return 0.7 * ops.sigmoid(scores)

    class Attends(layer_class):
        def attend(self, query, spans, training=None):
            return super().attend(query, spans, training) * ops.sigmoid(query)

    class Merges(layer_class):
        def merge(self, attended):
            return super().merge(ops.relu(attended))

    class Projects(layer_class):
        def project(self, inputs, positions):
            return tuple(2 * heads for heads in super().project(inputs, positions))

        def project_query(self, inputs):
            return 2 * super().project_query(inputs)

    classes = {
        "compute_scores": Scores,
        "compute_weights": Weights,
        "attend": Attends,
        "merge": Merges,
        "project": Projects,
    }
    return classes[method]


ONE_METHOD = pytest.mark.parametrize(
    "method", ["compute_scores", "compute_weights", "attend", "merge", "project"]
)


@ONE_METHOD
@pytest.mark.parametrize("beam_size", [1, 2])
def test_one_override_changes_calls_and_cached_steps_alike(method, beam_size):
    shape, tokens = (None, None, D), normal(B, 4, beam_size, D)
    plain = built(MultiHeadSelfAttention(H, causal=True), shape)
    layer = built(overriding(MultiHeadSelfAttention, method)(H, causal=True), shape)
    stepwise, whole = stepwise_and_whole(layer, tokens, chunked=True)
    np.testing.assert_allclose(stepwise, whole, atol=1e-5)
    assert np.abs(whole - stepwise_and_whole(plain, tokens, chunked=True)[1]).max() > 1e-2


@ONE_METHOD
def test_one_override_changes_calls_and_steps_over_a_memory_alike(method):
    shape, inputs, memory = (None, None, D), normal(B, 1, D), normal(B, S, D, seed=1)
    plain = built(MultiHeadCrossAttention(H), shape, shape)
    layer = built(overriding(MultiHeadCrossAttention, method)(H), shape, shape)
    whole = array(layer(inputs, memory, memory_mask=MEMORY_MASK))
    stepwise = step_over(layer, inputs, memory, MEMORY_MASK)
    np.testing.assert_allclose(stepwise, whole, atol=1e-5)
    assert np.abs(whole - array(plain(inputs, memory, memory_mask=MEMORY_MASK))).max() > 1e-2


@pytest.mark.parametrize("policy", POLICIES)
def test_a_step_does_not_see_what_the_cache_holds_after_it(policy):
    layer = make_self_attention(causal=True, dtype=policy)
    inputs, clean = normal(B, 1, D), layer.empty_cache(B, 4)
    later = np.arange(4)[:, None] > 0
    dirty = keras.tree.map_structure(lambda x: x + keras.ops.cast(7 * later, x.dtype), clean)
    at = StepContext.at(0, MaskPenalty.all_hidden(B, 4))
    np.testing.assert_array_equal(
        array(layer.step(inputs, dirty, at)[0]), array(layer.step(inputs, clean, at)[0])
    )


def test_a_cache_is_in_the_dtype_that_the_layer_computes_in():
    layer = make_self_attention(causal=True, dtype="mixed_bfloat16")
    cache = layer.empty_cache(3, 7, beam_size=2, chunked=True)
    assert [part.shape for part in cache.recent] == [(3, H, 14, D // H)] * 2
    assert [part.shape for part in cache.past] == [(3, H, D // H, 2), (3, H, 2, D // H)]
    dtypes = {keras.backend.standardize_dtype(part.dtype) for part in keras.tree.flatten(cache)}
    assert dtypes == {"bfloat16"}


def test_a_cache_for_attention_that_is_not_causal_is_an_error():
    layer = make_self_attention()
    at = StepContext.at(0, MaskPenalty.all_hidden(B, 4))
    with pytest.raises(ValueError, match="needs causal attention; got causal=False"):
        layer.step(normal(B, 1, D), layer.empty_cache(B, 4), at)


@pytest.mark.parametrize("policy", POLICIES)
def test_hypotheses_that_share_a_memory_equal_separate_calls(policy):
    layer = make_cross_attention(dtype=policy)
    inputs, memory = normal(B, 3, D), normal(B, S, D, seed=1)
    outputs = step_over(layer, inputs, memory, MEMORY_MASK)
    assert outputs.shape == (B, 3, D)
    for k in range(3):
        alone = layer(inputs[:, k : k + 1], memory, memory_mask=MEMORY_MASK)
        np.testing.assert_allclose(outputs[:, k : k + 1], array(alone), atol=TOLERANCE[policy])
