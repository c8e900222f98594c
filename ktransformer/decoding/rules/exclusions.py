"""Rules that exclude tokens."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from ktransformer.decoding.hypotheses import IMPOSSIBLE
from ktransformer.decoding.rules.rule import (
    Context,
    Rule,
    TokenExclusion,
    checked,
    mark_tokens,
)
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
        size: n, at least 1; 1 allows every token once. A tensor may be 0, for no rule.

    Raises:
        InputError: `size` is no integer or below 1.

    Reference: Paulus et al. 2018, section 2.5 (trigrams).
    """

    size: int | tf.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", checked("size", self.size, least=1, integer=True))

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        if tf.is_tensor(self.size):
            completes = self._find_open_ngrams(context) & (self.size > 0)
        else:
            completes = self._find_ngrams(context, self.size - 1)
        repeated = mark_tokens(context.ids, completes, logits.shape[-1])
        return tf.where(repeated, IMPOSSIBLE, logits), state

    def _find_ngrams(self, context: Context, before: int) -> tf.Tensor:
        """Marks the positions whose `before` tokens before them are the newest: `[N, T]`."""
        length = tf.shape(context.ids)[1]
        padded = tf.pad(context.ids, [[0, 0], [before, 0]], constant_values=-1)
        completes = context.written  # [N, T]: whether n - 1 tokens before it are the newest.
        for j in range(before):
            newest = tf.gather(padded, [context.index + j], axis=1)  # [N, 1]
            completes = completes & (padded[:, j : j + length] == newest)
        return completes

    def _find_open_ngrams(self, context: Context) -> tf.Tensor:
        """Marks the same positions for a size that is a tensor."""
        positions = tf.range(tf.shape(context.ids)[1])

        def compare(back: tf.Tensor, completes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            newest = tf.gather(context.ids, [tf.maximum(context.index - back, 0)], axis=1)
            older = tf.gather(context.ids, tf.maximum(positions - back, 0), axis=1)
            there = (positions >= back) & (context.index >= back)
            return back + 1, completes & there & (older == newest)

        return tf.while_loop(
            lambda back, _: back < self.size,
            compare,
            (tf.constant(1), context.written),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
        )[1]


@dataclasses.dataclass(frozen=True, eq=False)
class NoLoops(TokenExclusion):
    """Excludes the token with which a run of tokens would stand too often in a row.

    A model that loops writes the same few tokens until its limit. A forced prefix is searched, too.
    The end token is never excluded.

    Args:
        copies: How often a run may stand in a row, at least 1.
        longest: The tokens of the longest run that is looked for, at least 1.
        exempt: Boolean `[B]`, the sentences that the rule is not for; None for none.

    Raises:
        InputError: `copies` or `longest` is no integer or below 1.
    """

    copies: int
    longest: int = 8
    exempt: tf.Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("copies", "longest"):
            object.__setattr__(self, name, to_integer(name, getattr(self, name), least=1))

    def start(self, rows: tf.Tensor) -> Any:
        return () if self.exempt is None else self.exempt

    def find_excluded(self, context: Context, state: Any) -> tf.Tensor:
        # A run of `size` tokens goes on looping where each of the last `copies * size - 1` tokens
        # equals the one `size` tokens before it.
        sizes = np.arange(1, self.longest + 1)
        newest = np.arange(self.copies * self.longest - 1)
        back = 1 + np.arange((self.copies + 1) * self.longest - 1)
        recent = tf.gather(context.ids, tf.maximum(context.index - back, 0), axis=1)  # [N, W]
        agrees = tf.expand_dims(recent[:, : newest.size], 1) == tf.gather(
            recent, newest + sizes[:, None], axis=1
        )  # [N, sizes, newest]
        loops = tf.reduce_all(agrees | (newest >= self.copies * sizes[:, None] - 1), axis=2)
        loops = loops & (context.index >= (self.copies + 1) * sizes - 1)  # So many are there.
        next_tokens = recent[:, : self.longest]  # Those with which the runs would go on.
        excluded = loops & (next_tokens != context.special.end)
        if tf.is_tensor(state):
            excluded = excluded & ~tf.expand_dims(state, 1)
        tokens = tf.where(excluded, next_tokens, -1)
        return tf.stack(
            [
                tf.reduce_max(tokens[:, group[0] - 1 : group[-1]], axis=1)
                for group in self._groups()
            ],
            axis=1,
        )

    def _groups(self) -> list[list[int]]:
        """Returns groups of the sizes; runs of one group that loop at once go on with one token.

        Tokens of which the last p + q - gcd(p, q) repeat by p and by q also repeat by gcd(p, q)
        (Fine and Wilf 1965, theorem 1), and the last `(copies + 1) * p - 1` do where p loops.
        """
        groups: list[list[int]] = []
        for q in range(1, self.longest + 1):
            if groups and all(q < self.copies * p + math.gcd(p, q) for p in groups[-1]):
                groups[-1].append(q)
            else:
                groups.append([q])
        return groups

    def find_repeating(self, ids: tf.Tensor, pad: int) -> tf.Tensor:
        """Tells which of the padded ids `[B, S]` have a run too often in a row: boolean `[B]`."""
        sizes, length = np.arange(1, self.longest + 1), tf.shape(ids)[1]
        places, needed = tf.range(length), self.copies * sizes[:, None]
        later = tf.pad(ids, [[0, 0], [0, self.longest]], constant_values=pad)
        later = tf.gather(later, places + sizes[:, None], axis=1)  # [B, sizes, S]
        same = (later == tf.expand_dims(ids, 1)) & (later != pad)
        counts = tf.cumsum(tf.cast(same, tf.int32), axis=2)
        counts = tf.pad(counts, [[0, 0], [0, 0], [1, 0]])  # [B, sizes, S + 1]
        # A window that the end cuts short has too few.
        ends = tf.minimum(places + needed, length) + (sizes[:, None] - 1) * (length + 1)
        at_ends = tf.gather(tf.reshape(counts, [-1, len(sizes) * (length + 1)]), ends, axis=1)
        return tf.reduce_any(at_ends - counts[:, :, :-1] == needed, axis=[1, 2])


@dataclasses.dataclass(frozen=True, eq=False)
class SuppressedSequences(Rule):
    """Never completes given sequences of tokens, such as words of several pieces.

    A sequence of one token is that token; a forced prefix may begin a sequence.

    Args:
        ids: Int32 `[n, P]`, padded at the end.
        lengths: Int32 `[n]`, tokens of each sequence; 0 suppresses nothing.
    """

    ids: tf.Tensor
    lengths: tf.Tensor

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        before = tf.expand_dims(self.lengths - 1, 1)  # [n, 1]
        steps = tf.range(tf.shape(self.ids)[1])  # [P]
        places = context.index - before + steps  # [n, P], where the sequence would lie.
        inside = tf.clip_by_value(places, 0, tf.shape(context.ids)[1] - 1)
        written = tf.gather(context.ids, inside, axis=1)  # [N, n, P]
        agrees = (written == self.ids) & (places >= 0) | (steps >= before)
        begun = tf.reduce_all(agrees, axis=2) & (self.lengths > 0)  # [N, n]
        last = tf.gather(self.ids, tf.maximum(self.lengths - 1, 0), batch_dims=1)  # [n]
        last = tf.zeros_like(begun, tf.int32) + last
        completes = mark_tokens(last, begun, logits.shape[-1])
        return tf.where(completes, IMPOSSIBLE, logits), state


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


@dataclasses.dataclass(frozen=True, eq=False)
class FirstTokens(Rule):
    """Allows only some tokens as the first one after the forced prefix.

    Args:
        allowed: Boolean `[V]`.
        chosen: Boolean `[B]`, the sentences that the rule is for.
    """

    allowed: tf.Tensor
    chosen: tf.Tensor

    def start(self, rows: tf.Tensor) -> Any:
        return self.chosen

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        restricted = tf.expand_dims((context.counts == 0) & state, 1)
        return tf.where(restricted & ~self.allowed, IMPOSSIBLE, logits), state


@dataclasses.dataclass(frozen=True, eq=False)
class NthFirstToken(Rule):
    """Allows only one token as the first after the forced prefix: the one of a given rank.

    Args:
        ranks: Int32 `[B]`: 0 for the most probable token, up to `MOST - 1`; negative for any token.
    """

    MOST: ClassVar[int] = 64

    ranks: tf.Tensor

    def start(self, rows: tf.Tensor) -> Any:
        return self.ranks

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        size = logits.shape[-1]
        best = tf.math.top_k(logits, min(self.MOST, size)).indices
        token = tf.gather(best, tf.clip_by_value(state, 0, best.shape[1] - 1), batch_dims=1)
        is_token = tf.one_hot(token, size, on_value=True, off_value=False)
        restricted = tf.expand_dims((context.counts == 0) & (state >= 0), 1)
        return tf.where(restricted & ~is_token, IMPOSSIBLE, logits), state
