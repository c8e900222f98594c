"""The options of sampling, checked: as Python's numbers, whatever numbers were given."""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.numbers import to_float, to_integer

# Of float32's exponents about two thirds: a difference of logits can still be divided by it.
_COLDEST, _HOTTEST = 1e-25, 1e25


class SamplingOptions(NamedTuple):
    """The options of `sample`; see there."""

    temperature: float
    top_k: int
    top_p: float
    length_penalty: float


def check_sampling(
    temperature: Any, top_k: Any, top_p: Any, length_penalty: Any
) -> SamplingOptions:
    """Turns the options of `sample` into Python's numbers.

    Raises:
        InputError: One is no number, or outside its range.
    """
    temperature, top_p = to_float("temperature", temperature), to_float("top_p", top_p)
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature must be above 0 and finite; got temperature={temperature}.")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p must be in (0, 1]; got top_p={top_p}.")
    length_penalty = to_float("length_penalty", length_penalty)
    if not 0 <= length_penalty < math.inf:
        raise InputError(
            f"length_penalty must be at least 0 and finite; got length_penalty={length_penalty}."
        )
    temperature = min(max(temperature, _COLDEST), _HOTTEST)
    return SamplingOptions(temperature, to_integer("top_k", top_k, least=0), top_p, length_penalty)


def to_seed(seed: Any) -> tf.Tensor:
    """Turns a seed into a scalar int64: a tensor, or any integer, of which 64 bits count.

    Raises:
        InputError: It is no integer.
    """
    if tf.is_tensor(seed) and seed.dtype.is_integer and seed.shape.rank == 0:
        return tf.cast(seed, tf.int64)
    number = to_integer("seed", seed)
    return tf.constant((number + 2**63) % 2**64 - 2**63, tf.int64)
