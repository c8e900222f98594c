"""Rules that reshape the distribution of the next token, mostly for sampling."""

import dataclasses
from typing import Any

import tensorflow as tf

from ktransformer.decoding.hypotheses import IMPOSSIBLE
from ktransformer.decoding.rules.rule import Context, Rule, checked

# A third of float32's exponents stays free: a difference of logits can still be divided by it.
_COLDEST, _HOTTEST = 1e-25, 1e25
_FAR = 1e4  # Float32 tells logits of this size apart by 0.001.


@dataclasses.dataclass(frozen=True)
class Temperature(Rule):
    """Divides the logits by a temperature: below 1 sharpens the distribution, above 1 flattens it.

    Where the best quotient would be beyond 10,000 or -10,000, the best logit is subtracted first.

    Args:
        temperature: Above 0 and finite.

    Raises:
        InputError: `temperature` is no number or out of range.
    """

    temperature: float | tf.Tensor

    def __post_init__(self) -> None:
        value = checked("temperature", self.temperature, open_below=True)
        object.__setattr__(self, "temperature", value)

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        temperature = self.temperature
        if tf.is_tensor(temperature):
            temperature = tf.clip_by_value(tf.cast(temperature, tf.float32), _COLDEST, _HOTTEST)
        else:
            temperature = min(max(temperature, _COLDEST), _HOTTEST)
        best = tf.reduce_max(logits, axis=-1, keepdims=True)
        # No quotient may be so large that it loses precision, or the best one IMPOSSIBLE.
        shift = tf.where(tf.abs(best) / temperature > _FAR, best, 0.0)
        return (logits - shift) / temperature, state


@dataclasses.dataclass(frozen=True)
class TopK(Rule):
    """Allows the k most probable tokens, and those equal to the k-th.

    Args:
        k: At least 1. A tensor may be 0, for all tokens.

    Raises:
        InputError: `k` is no integer or below 1.

    Reference: Fan et al. 2018, section 5.4.
    """

    k: int | tf.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", checked("top_k", self.k, least=1, integer=True))

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        size = logits.shape[-1]
        if tf.is_tensor(self.k):
            last = tf.where(self.k < 1, size, tf.minimum(self.k, size)) - 1
            kth = tf.gather(_descending(logits), [last], axis=1)  # [N, 1]
        else:
            kth = tf.math.top_k(logits, min(self.k, size)).values[:, -1:]
        return tf.where(logits < kth, IMPOSSIBLE, logits), state


@dataclasses.dataclass(frozen=True)
class TopP(Rule):
    """Allows the fewest most probable tokens that together reach a probability.

    Args:
        p: In (0, 1].

    Raises:
        InputError: `p` is no number or out of range.

    Reference: Holtzman et al. 2020, section 3.1 ("nucleus").
    """

    p: float | tf.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", checked("top_p", self.p, most=1, open_below=True))

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        descending = _descending(logits)
        before = tf.cumsum(tf.nn.softmax(descending), axis=-1, exclusive=True)
        # The first token is always in: nothing comes before it. A sum may round up to 1.
        inside = tf.where((before < self.p) | (self.p >= 1.0), descending, descending[:, :1])
        least = tf.reduce_min(inside, axis=-1, keepdims=True)
        return tf.where(logits < least, IMPOSSIBLE, logits), state


@dataclasses.dataclass(frozen=True)
class MinP(Rule):
    """Allows the tokens whose probability is at least a share of the most probable token's.

    Args:
        p: The share, in [0, 1]; 0 allows all.

    Raises:
        InputError: `p` is no number or out of range.

    Reference: Nguyen et al. 2024, section 3.
    """

    p: float | tf.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", checked("min_p", self.p, most=1))

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        best = tf.reduce_max(logits, axis=-1, keepdims=True)
        return tf.where(tf.exp(logits - best) < self.p, IMPOSSIBLE, logits), state


def _descending(logits: tf.Tensor) -> tf.Tensor:
    return tf.math.top_k(logits, logits.shape[-1]).values
