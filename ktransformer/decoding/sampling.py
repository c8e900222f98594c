"""Sampling: greedy search on logits with random noise."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ktransformer.decoding.greedy import greedy_search
from ktransformer.decoding.hypotheses import Hypotheses, SpecialIds
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

    Returns:
        `Hypotheses` with K = 1.

    Raises:
        InputError: `seed` is no integer, or `rules` is wrong; see `greedy_search`.
    """
    return greedy_search(model, limits, special, rules=(*rules, _GumbelNoise(to_seed(seed))))


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
class _GumbelNoise(Rule):
    """Adds Gumbel noise, so that the best logit is a draw from the softmax."""

    seed: tf.Tensor

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        seed = tf.stack([self.seed, tf.cast(context.index, tf.int64)])
        uniform = tf.random.stateless_uniform(tf.shape(logits), seed, minval=1e-20)
        return logits - tf.math.log(-tf.math.log(uniform)), state


def to_seed(seed: Any) -> tf.Tensor:
    """Turns a seed into a scalar int64: a tensor, or any integer, of which 64 bits count.

    Raises:
        InputError: It is no integer.
    """
    if tf.is_tensor(seed) and seed.dtype.is_integer and seed.shape.rank == 0:
        return tf.cast(seed, tf.int64)
    number = to_integer("seed", seed)
    return tf.constant((number + 2**63) % 2**64 - 2**63, tf.int64)
