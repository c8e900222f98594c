"""Sampling: greedy search among one token, which is drawn."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ktransformer.decoding.greedy import greedy_search
from ktransformer.decoding.hypotheses import IMPOSSIBLE, Hypotheses, SpecialIds
from ktransformer.decoding.rules import Context, MinP, Rule, Temperature, TopK, TopP
from ktransformer.decoding.search_model import SearchModel
from ktransformer.numbers import to_integer


def sample(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    seed: int | tf.Tensor = 0,
    rules: Sequence[Rule] = (),
    score_forced_end: bool = True,
) -> Hypotheses:
    """Draws each token from the distribution that the rules leave of the model's.

    Args:
        model: Predicts the next token.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        seed: The same seed gives the same sequences; any integer, of which 64 bits count, or a
            scalar tensor.
        rules: Decoding rules, such as `Temperature`, `TopK`, `TopP` and `MinP`, in the order in
            which they act. Scores are the model's, whatever the rules.
        score_forced_end: As in `greedy_search`.

    Returns:
        `Hypotheses` with K = 1.

    Raises:
        InputError: `seed` is no integer, or `rules` is wrong; see `greedy_search`.
    """
    rules = (*rules, _Draw(to_seed(seed)))
    return greedy_search(model, limits, special, rules=rules, score_forced_end=score_forced_end)


def sampling_rules(
    *,
    temperature: float | tf.Tensor = 1.0,
    top_k: int | tf.Tensor = 0,
    top_p: float | tf.Tensor = 1.0,
    min_p: float | tf.Tensor = 0.0,
) -> tuple[Rule, ...]:
    """Makes the rules of the usual options; an option that changes nothing gives no rule.

    Args:
        temperature: See `Temperature`.
        top_k: See `TopK`; 0 for all tokens.
        top_p: See `TopP`.
        min_p: See `MinP`.

    Raises:
        InputError: An option is no number or out of range.
    """
    given = (
        (Temperature, temperature, 1),
        (TopK, top_k, 0),
        (TopP, top_p, 1),
        (MinP, min_p, 0),
    )
    return tuple(rule(value) for rule, value, off in given if tf.is_tensor(value) or value != off)


@dataclasses.dataclass(frozen=True, eq=False)
class _Draw(Rule):
    """Allows the one token that is drawn: the first with a cumulated probability above a number.

    Its operations are those of LiteRT. A sentence is drawn alike whatever others the batch has.
    """

    seed: tf.Tensor

    def start(self, rows: tf.Tensor) -> Any:
        return tf.range(rows)  # The number of each sentence, which stays when others are done.

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        cumulated = tf.cumsum(tf.nn.softmax(logits), axis=1)
        number = uniform_numbers(self.seed, context.index, state)[:, None] * cumulated[:, -1:]
        size = logits.shape[-1]
        reached = (cumulated > number) & (logits > IMPOSSIBLE / 2)
        first = tf.reduce_min(tf.where(reached, tf.range(size), size), axis=1)
        drawn = tf.one_hot(first, size, on_value=True, off_value=False)
        return tf.where(drawn, logits, IMPOSSIBLE), state


# Primes below 2**31: a product of two numbers below one fits in int64. The remainders of a seed by
# all three tell 64 bits apart.
_PRIMES = (2**31 - 1, 2**31 - 19, 2**31 - 61)
_STEPS = 2**23  # Numbers in [0, 1) that float32 holds, even when a total is multiplied by them.


def uniform_numbers(seed: tf.Tensor, index: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Draws numbers from [0, 1): the same ones for the same arguments, in LiteRT too.

    LiteRT has no seeded random operation of its own. Raising to the fifth power permutes the
    remainders by the first prime, so a few rounds with a key added in each make a block cipher
    (MiMC: Albrecht et al. 2016, section 2) of the number of the row.

    Args:
        seed: Int64 scalar.
        index: Int32 scalar, the position.
        rows: Int32 `[N]`, a number for each row.

    Returns:
        Float32 `[N]`.
    """
    prime = tf.constant(_PRIMES[0], tf.int64)
    keys = [tf.math.floormod(seed, tf.constant(each, tf.int64)) for each in _PRIMES]
    number = tf.cast(rows, tf.int64)
    for constant, key in enumerate((*keys, tf.cast(index, tf.int64), *keys)):
        number = tf.math.floormod(number + key + 97 * (constant + 1), prime)
        square = tf.math.floormod(number * number, prime)
        number = tf.math.floormod(tf.math.floormod(square * square, prime) * number, prime)
    return tf.cast(tf.math.floormod(number, _STEPS), tf.float32) / _STEPS


def to_seed(seed: Any) -> tf.Tensor:
    """Turns a seed into a scalar int64: a tensor, or any integer, of which 64 bits count.

    Raises:
        InputError: It is no integer.
    """
    if tf.is_tensor(seed) and seed.dtype.is_integer and seed.shape.rank == 0:
        return tf.cast(seed, tf.int64)
    number = to_integer("seed", seed)
    return tf.constant((number + 2**63) % 2**64 - 2**63, tf.int64)
