"""The embedding of BERT: token types, a norm, and what it shares with the plain one."""

import keras
import numpy as np
import pytest

from ktransformer.layers import TypedEmbedding
from tests.layers.layer_checks import array, built, check_layer

SIZES = {"vocabulary_size": 11, "d_model": 8, "max_length": 6, "positions": "learned"}
IDS = np.array([[5, 7, 3, 9, 3, 0]], "int32")
TYPES = np.array([[0, 0, 0, 1, 1, 1]], "int32")


def make(**options):
    options = {"type_vocabulary_size": 2, "norm": "layer", "epsilon": 0.3, **options}
    return TypedEmbedding(**{**SIZES, **options})


def test_it_keeps_what_every_layer_keeps(tmp_path):
    check_layer(lambda policy: make(dtype=policy), (IDS,), (1, 6, 8), tmp_path)


@pytest.mark.parametrize("types", [TYPES, None], ids=["pair", "single"])
def test_vectors_are_the_normed_sum_of_token_position_and_type(types):
    layer = built(make(scale=False), None)
    rows = 0 * TYPES if types is None else types
    total = array(layer.embeddings)[IDS] + array(layer.position_embeddings)
    total = total + array(layer.type_embeddings)[rows]
    centred = total - total.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.3)
    expected = normed * array(layer.sum_norm.gamma) + array(layer.sum_norm.beta)
    np.testing.assert_allclose(array(layer(IDS, token_types=types)), expected, atol=1e-5)


def test_types_without_a_norm_and_a_norm_without_types():
    typed, normed = built(make(norm=None), None), built(make(type_vocabulary_size=0), None)
    moved = array(typed(IDS, token_types=TYPES)) - array(typed(IDS))
    first, second = array(typed.type_embeddings)
    np.testing.assert_allclose(moved, TYPES[..., None] * (second - first), atol=1e-5)
    assert [weight.name for weight in normed.weights if "type" in weight.name] == []
    assert array(normed(IDS)).shape == (1, 6, 8)


def test_types_for_a_layer_without_any_are_refused():
    with pytest.raises(ValueError, match=r"token_types.*type_vocabulary_size.*0"):
        built(make(type_vocabulary_size=0), None)(IDS, token_types=TYPES)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"type_vocabulary_size": -1}, "type_vocabulary_size.*0.*-1"),
        ({"norm": "batch"}, "norm.*batch"),
    ],
    ids=str,
)
def test_an_impossible_option_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


def test_the_table_is_still_the_output_projection():
    layer = built(make(), None)
    hidden = np.random.default_rng(0).normal(size=(1, 4, 8)).astype("float32")
    expected = hidden @ array(layer.embeddings).T
    np.testing.assert_allclose(array(layer(hidden, reverse=True)), expected, atol=1e-5)
    symbolic = keras.Input((4, 8))
    assert layer.logits(symbolic).shape == (None, 4, 11)
