"""Searches against `generate` of Hugging Face, by arrays of make_generate_parity.py."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    LengthPenalty,
    RepetitionPenalty,
    StepFunctionModel,
    beam_search,
    greedy_search,
)
from tests.decoding.toy_model import SPECIAL, ToyModel


@pytest.fixture(scope="module")
def arrays():
    with np.load(Path(__file__).parent / "generate_parity.npz") as file:
        return dict(file)


def search(table, *, beam_size, early_stopping=False, length_penalty=1.0, rules=()):
    model, (sentences, length, size, _) = ToyModel(0), table.shape
    model.table = np.repeat(table.astype("float32")[:, :, None], size, axis=2)
    steps = StepFunctionModel(model.step, model.state(range(sentences), beam_size))
    options = {"rules": (*rules, LengthPenalty(length_penalty)), "score_forced_end": False}
    if beam_size > 1:
        options |= {"beam_size": beam_size, "n_best": beam_size, "early_stopping": early_stopping}
    method = beam_search if beam_size > 1 else greedy_search
    return tf.function(lambda: method(steps, tf.fill([sentences], length), SPECIAL, **options))()


FEW = [(4, False, 1.0), (4, True, 1.0), (2, False, 0.6)]
EVERY = list(itertools.product([2, 4], [False, True], [0.0, 0.6, 1.0, 2.0]))


@pytest.mark.parametrize(
    ("beam_size", "early_stopping", "length_penalty"),
    [pytest.param(*each, marks=() if each in FEW else pytest.mark.long) for each in EVERY],
)
def test_a_beam_finds_what_generate_finds(beam_size, early_stopping, length_penalty, arrays):
    settings = {"early_stopping": early_stopping, "length_penalty": length_penalty}
    found = search(arrays["table"], beam_size=beam_size, **settings)
    name = f"{beam_size}_{early_stopping}_{length_penalty}"
    np.testing.assert_array_equal(found.ids, arrays[f"ids_{name}"])
    np.testing.assert_allclose(found.scores, arrays[f"scores_{name}"], atol=1e-5)


def test_greedy_search_finds_what_generate_finds(arrays):
    found = search(arrays["table"], beam_size=1)
    np.testing.assert_array_equal(found.ids, arrays["ids_1_True_1.0"])


@pytest.mark.parametrize("beam_size", [1, pytest.param(4, marks=pytest.mark.long)])
def test_a_forced_end_is_free_with_rules_too(beam_size, arrays):
    plain = search(arrays["table"], beam_size=beam_size)
    found = search(arrays["table"], beam_size=beam_size, rules=[RepetitionPenalty(1.0)])
    np.testing.assert_array_equal(found.ids, plain.ids)
    for name in ("scores", "log_probabilities"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1e-4)
