"""Rules that penalize repetition, length and source positions without attention."""

import dataclasses
from typing import Any

import tensorflow as tf

from ktransformer.decoding.rules.rule import Context, Rule, checked, mark_tokens

_LEAST_ATTENTION = 1e-9  # Its logarithm is finite.


@dataclasses.dataclass(frozen=True)
class RepetitionPenalty(Rule):
    """Lowers the logits of tokens that the hypothesis, or its forced prefix, already contains.

    A positive logit is divided by the penalty, a negative one multiplied by it.

    Args:
        penalty: Above 0; above 1 against repetition, 1 changes nothing.

    Raises:
        InputError: `penalty` is no number or out of range.

    Reference: Keskar et al. 2019, section 4.1 (which divides every logit).
    """

    penalty: float | tf.Tensor

    def __post_init__(self) -> None:
        value = checked("penalty", self.penalty, open_below=True)
        object.__setattr__(self, "penalty", value)

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        seen = mark_tokens(context.ids, context.written, logits.shape[-1])
        lowered = tf.where(logits > 0, logits / self.penalty, logits * self.penalty)
        return tf.where(seen, lowered, logits), state


@dataclasses.dataclass(frozen=True)
class LengthPenalty(Rule):
    """Divides the log-probability of a finished hypothesis by `length ** exponent`.

    A search without this rule has it with its default.

    Args:
        exponent: At least 0; 0 ranks by log-probability, 1 by its mean over the tokens.

    Raises:
        InputError: `exponent` is no number or out of range.

    Reference: Wu et al. 2016, section 7 (here with `length ** exponent`).
    """

    exponent: float | tf.Tensor = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "exponent", checked("length_penalty", self.exponent))

    def score(self, totals: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return totals / tf.pow(tf.cast(lengths, tf.float32), self.exponent)

    def total(self, scores: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Returns the log-probabilities that have these scores."""
        return scores * tf.pow(tf.cast(lengths, tf.float32), self.exponent)


@dataclasses.dataclass(frozen=True)
class Coverage(Rule):
    """Lowers the score of a finished hypothesis for source positions with little attention.

    The score changes by `penalty * sum of log(min(attention, 1))` over the source positions, where
    `attention` is summed over the tokens (see `Rule.score_attention`), and counts as 1e-9 at least.
    Beam search may choose another hypothesis; greedy search and sampling write the same tokens,
    with this score.

    Args:
        penalty: At least 0; 0 changes nothing.

    Raises:
        InputError: `penalty` is no number or out of range.

    Reference: Wu et al. 2016, section 7 (beta there), without the least attention of 1e-9.
    """

    penalty: float | tf.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalty", checked("coverage_penalty", self.penalty))

    def score_attention(self, attention: tf.Tensor) -> tf.Tensor:
        covered = tf.math.log(tf.clip_by_value(attention, _LEAST_ATTENTION, 1.0))
        return self.penalty * tf.reduce_sum(covered, axis=-1)
