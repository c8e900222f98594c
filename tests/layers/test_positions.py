"""Positions by name and as objects: their numbers, and attention that holds them."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from ktransformer.layers import (
    MaskPenalty,
    MultiHeadSelfAttention,
    PositionalEmbedding,
    PositionEncoding,
    Positions,
    StepContext,
    positions,
)
from ktransformer.layers.positions import alibi_slopes, relative_buckets
from tests.layers.attention_runs import stepwise_and_whole
from tests.layers.layer_checks import POLICIES, TOLERANCE, array, built, check_layer, normal

B, T, D, H = 2, 5, 16, 4
STORED = np.load(Path(__file__).parents[1] / "models" / "parity" / "llama.npz")
HELD_BY_ATTENTION = pytest.mark.parametrize("name", ["rotary", "alibi", "relative"])


def make(name, num_heads=H, **options):
    layer = MultiHeadSelfAttention(num_heads, positions=name, **options)
    return built(layer, (None, None, D))


@keras.saving.register_keras_serializable(package="tests")
@dataclasses.dataclass(frozen=True)
class Window(PositionEncoding):
    """Hides what is farther away than a width: a user's own positions."""

    width: int = 8

    def bias(self, layer, positions):
        distances = positions.queries[:, None] - positions.keys[None, :]
        return ops.where(ops.abs(distances) < self.width, 0.0, -1e9)[None]


def test_slopes_halve_from_one_of_eight_heads_to_the_next():
    np.testing.assert_allclose(alibi_slopes(8), 1 / np.array([2, 4, 8, 16, 32, 64, 128, 256]))


def test_slopes_of_three_heads_are_those_of_two_and_the_first_of_four():
    np.testing.assert_allclose(alibi_slopes(3), [1 / 16, 1 / 256, 1 / 4])


@pytest.mark.parametrize("heads", [4, 6, 8, 12])
def test_slopes_are_those_of_bloom(heads):
    np.testing.assert_allclose(alibi_slopes(heads), STORED[f"slopes_{heads}"], rtol=1e-6)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_buckets_are_those_of_t5(direction):
    buckets = relative_buckets(
        STORED["relative_positions"],
        num_buckets=32,
        max_distance=128,
        bidirectional=direction == "bidirectional",
    )
    np.testing.assert_array_equal(buckets, STORED[f"buckets_{direction}"])


def test_near_distances_have_buckets_of_their_own_and_far_ones_share():
    sizes = {"num_buckets": 8, "max_distance": 16}
    distances = np.array([-20, -16, -8, -4, -3, -1, 0, 1, 5])
    causal = relative_buckets(distances, bidirectional=False, **sizes)
    np.testing.assert_array_equal(causal, [7, 7, 6, 4, 3, 1, 0, 0, 0])
    both = relative_buckets(distances, bidirectional=True, **sizes)
    np.testing.assert_array_equal(both, [3, 3, 3, 2, 2, 1, 0, 5, 6])


def test_linear_biases_fall_with_the_distance_in_both_directions():
    bias = array(make("alibi", num_heads=2).position_bias(Positions.from_start(2, 3)))
    distances = np.array([[0, 1, 2], [1, 0, 1]])
    np.testing.assert_allclose(bias, [-distances / 16, -distances / 256])


def test_a_relative_bias_is_the_row_of_its_bucket():
    encoding = positions.RelativeBias(num_buckets=4, max_distance=4)
    layer = make(encoding, num_heads=1, causal=True)
    layer.relative_bias.assign([[0.0], [1.0], [2.0], [3.0]])  # Distances 0, 1, 2, and 3 and more.
    bias = array(layer.position_bias(Positions(np.array([9]), np.array([0, 5, 6, 7, 8, 9]))))
    np.testing.assert_allclose(bias, [[[3, 3, 3, 2, 1, 0]]])


def test_rotary_positions_turn_pairs_half_a_head_apart():
    layer = make("rotary")  # Of 4 features a head: 1 and 1/100 radians a position.
    heads = np.eye(4, dtype="float32").reshape(1, 4, 1, 4)  # Each head one unit vector.
    turned = array(positions.Rotary().transform(layer, heads, np.array([2])))[0, :, 0]
    c0, s0, c1, s1 = np.cos(2.0), np.sin(2.0), np.cos(0.02), np.sin(0.02)
    expected = [[c0, 0, s0, 0], [0, c1, 0, s1], [-s0, 0, c0, 0], [0, -s1, 0, c1]]
    np.testing.assert_allclose(turned, expected, atol=1e-6)


def test_the_base_of_rotary_positions_sets_the_slowest_turn():
    heads = np.array([0, 1, 0, 0], "float32").reshape(1, 1, 1, 4)
    turned = positions.Rotary(base=4.0).transform(make("rotary"), heads, np.array([1]))
    np.testing.assert_allclose(array(turned)[0, 0, 0], [0, np.cos(0.5), 0, np.sin(0.5)], atol=1e-6)


@HELD_BY_ATTENTION
def test_weights_depend_on_distances_alone(name):
    layer = make(name)
    query, key, _ = layer.project_heads(layer.input_projection, normal(B, T, D), H, H, H)

    def scores(start):
        places = np.arange(start, start + T)
        turned = [layer.positions.transform(layer, heads, places) for heads in (query, key)]
        bias = layer.position_bias(Positions(places, places))
        return array(layer.compute_scores(*turned, None)) + (0 if bias is None else array(bias))

    np.testing.assert_allclose(scores(0), scores(7), atol=1e-5)


@HELD_BY_ATTENTION
def test_attention_tells_an_order_from_another(name):
    layer, plain = make(name), make("none")
    inputs = normal(B, T, D)
    order = [3, 1, 2, 0, 4]
    np.testing.assert_allclose(
        array(plain(inputs))[:, order], array(plain(inputs[:, order])), atol=1e-5
    )
    assert np.abs(array(layer(inputs))[:, order] - array(layer(inputs[:, order]))).max() > 1e-3


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("encoding", [*positions.NAMES[2:], positions.Rotary(30.0), Window(2)])
def test_cached_steps_equal_whole_calls(encoding, num_kv_heads, chunked):
    layer = make(encoding, num_kv_heads=num_kv_heads, causal=True)
    stepwise, whole = stepwise_and_whole(layer, normal(B, 4, 2, D), chunked=chunked)
    np.testing.assert_allclose(stepwise, whole, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES[1:])
@HELD_BY_ATTENTION
def test_cached_steps_equal_whole_calls_in_half_precision(name, policy):
    layer = make(name, num_kv_heads=2, causal=True, dtype=policy)
    stepwise, whole = stepwise_and_whole(layer, normal(B, 4, 2, D), chunked=True)
    np.testing.assert_allclose(stepwise, whole, atol=TOLERANCE[policy])


@pytest.mark.parametrize("policy", POLICIES)
@HELD_BY_ATTENTION
def test_a_sentence_of_padding_alone_gives_the_output_bias(name, policy):
    layer = make(name, dtype=policy)
    mask = np.array([[False] * T, [True] * T])
    outputs = array(layer(normal(B, T, D), mask=mask))
    bias = array(layer.output_projection.bias)
    np.testing.assert_allclose(
        outputs[0], np.broadcast_to(bias, (T, D)), rtol=TOLERANCE[policy], atol=1e-6
    )
    assert np.all(np.isfinite(outputs))


@HELD_BY_ATTENTION
def test_attention_with_positions_keeps_the_layer_contract(name, tmp_path):
    check_layer(
        lambda policy: MultiHeadSelfAttention(H, positions=name, num_kv_heads=2, dtype=policy),
        [normal(B, T, D)],
        (B, T, D),
        tmp_path,
    )


@pytest.mark.parametrize("encoding", ["rotary", "alibi", "relative", Window(2)])
def test_a_cached_step_converts_to_lite(encoding):
    layer = make(encoding, num_kv_heads=2, causal=True)
    room = {"beam_size": 2, "chunked": True}
    state = (layer.empty_cache(1, 3, **room), MaskPenalty.all_hidden(1, 3, **room))

    names = [f"part_{index}" for index in range(len(keras.tree.flatten(state)))]

    constants = [(weight, tf.constant(weight.value)) for weight in layer.weights]

    @tf.function(autograph=False)
    def step(**parts):
        cache, penalty = keras.tree.pack_sequence_as(state, [parts[name] for name in names])
        at = StepContext.at(parts["index"], penalty)
        with keras.StatelessScope(state_mapping=constants):  # LiteRT loses variables.
            return layer.step(parts["inputs"], cache, at)[0]

    values = [normal(*part.shape) for part in keras.tree.flatten(state)]
    parts = dict(zip(names, values, strict=True))
    parts |= {"inputs": normal(1, 2, D), "index": np.array(2, "int32")}
    specs = {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in parts.items()}
    functions = [step.get_concrete_function(**specs)]
    model = tf.lite.TFLiteConverter.from_concrete_functions(functions, tf.Module()).convert()
    (outputs,) = Interpreter(model_content=model).get_signature_runner()(**parts).values()
    np.testing.assert_allclose(outputs, array(step(**parts)), atol=1e-5)


@pytest.mark.parametrize("name", positions.NAMES)
def test_a_name_is_found_and_saved_as_itself(name):
    encoding = positions.get(name)
    assert positions.get(encoding) is encoding
    assert positions.serialize(encoding) == name


@pytest.mark.parametrize(
    "encoding", [positions.Rotary(5e5), positions.RelativeBias(num_buckets=16), Window(3)]
)
def test_positions_with_options_are_saved_and_loaded_with_a_layer(encoding):
    attention = MultiHeadSelfAttention(H, positions=encoding)
    assert MultiHeadSelfAttention.from_config(attention.get_config()).positions == encoding
    embedding = PositionalEmbedding(9, D, max_length=4, positions=encoding)
    assert PositionalEmbedding.from_config(embedding.get_config()).positions == encoding


def test_layers_saved_before_there_were_position_objects_load():
    attention = MultiHeadSelfAttention(H).get_config()
    del attention["positions"], attention["num_kv_heads"]
    layer = MultiHeadSelfAttention.from_config(attention)
    assert (layer.positions, layer.num_kv_heads) == (positions.get("none"), H)
    embedding = PositionalEmbedding(9, D, max_length=4).get_config()
    assert embedding["positions"] == "sinusoidal"


@pytest.mark.parametrize("identifier", ["rotating", None, 3, ["rotary"]])
def test_unknown_positions_are_an_error(identifier):
    with pytest.raises(ValueError, match=re.escape(f"positions={identifier!r}")):
        positions.get(identifier)


@pytest.mark.parametrize(
    ("encoding", "options", "named"),
    [
        (positions.Rotary, {"base": 0.0}, "base=0.0"),
        (positions.RelativeBias, {"num_buckets": 3}, "num_buckets=3"),
        (positions.RelativeBias, {"max_distance": 16}, "max_distance=16"),
    ],
)
def test_an_option_out_of_its_range_is_an_error(encoding, options, named):
    with pytest.raises(ValueError, match=named):
        encoding(**options)


def test_rotary_positions_of_an_odd_head_are_an_error():
    with pytest.raises(ValueError, match=r"rotary.*d_model=6, num_heads=2"):
        MultiHeadSelfAttention(2, positions="rotary").build((None, None, 6))


@HELD_BY_ATTENTION
def test_positions_of_the_attention_add_nothing_to_an_embedding(name):
    layer = built(PositionalEmbedding(9, D, max_length=4, positions=name, scale=False))
    ids = np.array([[3, 1, 4]])
    np.testing.assert_allclose(array(layer(ids)), array(layer.embeddings)[ids], atol=1e-6)
    assert len(layer.weights) == 1


@pytest.mark.parametrize("name", ["sinusoidal", "learned"])
def test_positions_of_the_embedding_add_nothing_to_attention(name):
    layer, plain = make(name), make("none")
    inputs = normal(B, T, D)
    np.testing.assert_array_equal(array(layer(inputs)), array(plain(inputs)))


_ON_JAX = """
import keras, numpy as np
from ktransformer.layers import MultiHeadSelfAttention
from tests.layers.attention_runs import stepwise_and_whole
from tests.layers.layer_checks import array, built, normal

assert keras.backend.backend() == "jax"
options = {"num_kv_heads": 2, "causal": True}
for name in ("rotary", "relative"):
    layer = built(MultiHeadSelfAttention(4, positions=name, **options), (None, None, 16))
    stepwise, whole = stepwise_and_whole(layer, normal(2, 2, 2, 16), chunked=False)
    np.testing.assert_allclose(stepwise, whole, atol=1e-5)
layer = built(MultiHeadSelfAttention(4, positions="rotary", **options), (None, None, 16))
inputs, mask = normal(2, 4, 16), np.array([[True] * 3 + [False], [False] * 4])
calls, fused = [], keras.ops.dot_product_attention


def count(*arguments, **named):
    calls.append(1)
    return fused(*arguments, **named)


keras.ops.dot_product_attention = count
plain = array(layer(inputs, mask=mask))
assert not calls
MultiHeadSelfAttention.fused_attention = True
np.testing.assert_allclose(array(layer(inputs, mask=mask)), plain, atol=1e-5)
assert calls == [1]


class Scores(MultiHeadSelfAttention):
    def compute_scores(self, query, key, positions):
        return 0 * super().compute_scores(query, key, positions)


class Weights(MultiHeadSelfAttention):
    def span_weights(self, query, spans):
        return 0 * super().span_weights(query, spans)


for other in (
    Scores(4),
    Weights(4),
    MultiHeadSelfAttention(4, positions="alibi"),
    MultiHeadSelfAttention(4, dropout=0.1),
):
    other(inputs, training=True)
assert calls == [1]
"""


@pytest.mark.long
def test_positions_grouped_heads_and_the_fused_attention_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", _ON_JAX], env=environment, check=True)
