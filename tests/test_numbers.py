"""Numbers that a caller gives: all that Python takes for numbers work, others are named."""

import json

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.config import BatchingConfig, DecodingConfig
from ktransformer.errors import InputError
from ktransformer.numbers import to_float, to_integer


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), tf.constant(3)])
def test_every_integer_becomes_an_int(value):
    assert type(to_integer("top_k", value)) is int
    assert to_integer("top_k", value, least=3, most=3) == 3


@pytest.mark.parametrize("value", [2, 2.0, np.float16(2), np.int32(2), tf.constant(2.0)])
def test_every_number_becomes_a_float(value):
    assert type(to_float("temperature", value)) is float
    assert to_float("temperature", value) == 2.0


@pytest.mark.parametrize("value", [2.0, "2", None, [2], np.float32(2), np.array([1, 2])])
def test_what_is_no_integer_is_named(value):
    with pytest.raises(InputError, match=r"^top_k .*integer.*top_k="):
        to_integer("top_k", value)


@pytest.mark.parametrize("value", ["2", None, [2], 2j, 10**400])
def test_what_is_no_number_is_named(value):
    with pytest.raises(InputError, match=r"^temperature .*number.*temperature="):
        to_float("temperature", value)


def test_an_integer_out_of_range_is_named():
    with pytest.raises(InputError, match=r"^n .*1.*4.*n=5"):
        to_integer("n", 5, least=1, most=4)
    with pytest.raises(InputError, match=r"^n .*1.*n=0"):
        to_integer("n", np.int64(0), least=1)
    with pytest.raises(InputError, match=r"^n .*4.*n=5"):
        to_integer("n", 5, most=4)


def test_settings_take_numbers_of_numpy_and_keep_pythons():
    given = DecodingConfig(beam_size=np.int64(2), length_penalty=np.float32(0.5))
    assert given == DecodingConfig(beam_size=2, length_penalty=0.5)
    json.dumps([given.beam_size, given.length_penalty])
    assert type(BatchingConfig(max_texts=np.int32(8)).max_texts) is int
    with pytest.raises(InputError, match=r"beam_size .*integer.*beam_size=2.5"):
        DecodingConfig(beam_size=2.5)
