"""Rules that exclude tokens."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from ktransformer.decoding.hypotheses import IMPOSSIBLE
from ktransformer.decoding.rules.rule import Context, Rule, checked
from ktransformer.numbers import to_integer


@dataclasses.dataclass(frozen=True)
class SuppressedIds(Rule):
    """Never chooses some ids, in addition to `SpecialIds.suppressed`; costs next to nothing.

    Args:
        ids: The ids, each at least 0.

    Raises:
        InputError: An id is no integer or negative.
    """

    ids: Iterable[int]

    def __post_init__(self) -> None:
        ids = tuple(to_integer("ids", i, least=0) for i in self.ids)
        object.__setattr__(self, "ids", ids)

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        ids = tf.constant(self.ids, tf.int32, shape=(len(tuple(self.ids)),))
        hits = tf.one_hot(ids, logits.shape[-1], on_value=True, off_value=False)  # [ids, V]
        return tf.where(tf.reduce_any(hits, axis=0), IMPOSSIBLE, logits), state


@dataclasses.dataclass(frozen=True)
class MinimumLength(Rule):
    """Excludes the end token until a hypothesis is long enough; its limit goes first.

    Args:
        length: The fewest tokens, the end token included, without a forced prefix; at least 0.

    Raises:
        InputError: `length` is no integer or negative.
    """

    length: int | tf.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", checked("length", self.length, integer=True))

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        is_end = tf.one_hot(context.special.end, logits.shape[-1], on_value=True, off_value=False)
        early = tf.expand_dims(context.counts + 1 < self.length, 1)  # [N, 1]
        return tf.where(early & is_end, IMPOSSIBLE, logits), state


@dataclasses.dataclass(frozen=True)
class NoRepeatedNgrams(Rule):
    """Excludes tokens that would complete an n-gram which the hypothesis already contains.

    A forced prefix is searched, too.

    Args:
        size: n, at least 1; 1 allows every token once.

    Raises:
        InputError: `size` is no integer or below 1.

    Reference: Paulus et al. 2018, section 2.5 (trigrams).
    """

    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", to_integer("size", self.size, least=1))

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        before, length = self.size - 1, tf.shape(context.ids)[1]
        padded = tf.pad(context.ids, [[0, 0], [before, 0]], constant_values=-1)
        completes = context.written  # [N, T]: whether n - 1 tokens before it are the newest.
        for j in range(before):
            newest = tf.gather(padded, [context.index + j], axis=1)  # [N, 1]
            completes = completes & (padded[:, j : j + length] == newest)
        repeated = mark_tokens(context.ids, completes, logits.shape[-1])
        return tf.where(repeated, IMPOSSIBLE, logits), state


@dataclasses.dataclass(frozen=True, eq=False)
class ForcedPrefix(Rule):
    """Starts each sentence's hypotheses with given tokens, such as the prompt of a language model.

    The model reads them one a step, after the start token. They count neither in a score nor in a
    length or a limit, an end token among them ends nothing, and other rules do not exclude them.
    The returned ids begin after the prefix, each sentence's own.

    Args:
        ids: Int32 `[B, P]`, padded at the end.
        lengths: Int32 `[B]`, tokens of each prefix; None for those that are not padding.
    """

    ids: tf.Tensor
    lengths: tf.Tensor | None = None


def mark_tokens(ids: tf.Tensor, chosen: tf.Tensor, vocabulary_size: int) -> tf.Tensor:
    """Marks the tokens that occur at chosen positions: `[N, T]`, `[N, T]` -> boolean `[N, V]`."""
    rows = tf.shape(ids)[0]
    row = tf.zeros_like(ids) + tf.expand_dims(tf.range(rows), 1)
    places = tf.reshape(tf.stack([row, ids], axis=2), [-1, 2])  # [N * T, 2]
    hits = tf.reshape(tf.cast(chosen, tf.int32), [-1])
    return tf.scatter_nd(places, hits, tf.stack([rows, vocabulary_size])) > 0
