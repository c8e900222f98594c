"""The rules of one search, applied together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.hypotheses import IMPOSSIBLE, SpecialIds, number_positions
from ktransformer.decoding.rules import (
    Context,
    ForcedPrefix,
    LengthPenalty,
    Rule,
    SuppressedIds,
    TokenExclusion,
)
from ktransformer.errors import InputError

_EXCLUDED = IMPOSSIBLE / 2  # A logit up to this excludes its token.


class Prefix(NamedTuple):
    """The forced tokens of B sentences."""

    ids: tf.Tensor  # [B, P + 1], so that there is a place to look at where P is 0.
    lengths: tf.Tensor  # [B]

    def at(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns which sentences have a forced token at a position, and the tokens: `[B]` each."""
        place = tf.minimum(index, tf.shape(self.ids)[1] - 1)
        return index < self.lengths, tf.gather(self.ids, place, axis=1)


class RuleSet:
    """Applies rules in their order, and keeps apart those that a search handles itself.

    Suppressed ids and the tokens of a `TokenExclusion` alone change no logits: `find_candidates`
    skips them among the best few.

    Args:
        rules: The rules.
        special: The special ids.

    Attributes:
        special: The special ids; `suppressed` has those of the rules, too.
        changes_logits: Whether `apply` is needed at all.
        excludes: Whether `find_excluded` is needed in its place.
        ranks: Whether hypotheses are ranked by more than the model's log-probability and a length
            penalty.
        scores_attention: Whether `score_attention` is needed at all.
        length_penalty: The length penalty.

    Raises:
        InputError: One is no `Rule`, or two are a `ForcedPrefix`.
    """

    def __init__(self, rules: Sequence[Rule], special: SpecialIds) -> None:
        for rule in rules:
            if not isinstance(rule, Rule):
                raise InputError(f"rules must be Rule objects; got {rule!r}.")
        suppressed = [SuppressedIds(special.suppressed)]
        suppressed += [  # A subclass with an `apply` of its own may allow its ids at times.
            rule
            for rule in rules
            if isinstance(rule, SuppressedIds) and type(rule).apply is SuppressedIds.apply
        ]
        ids = tuple(dict.fromkeys(i for rule in suppressed for i in rule.ids))
        self.special = special._replace(suppressed=ids)
        self._suppressed = SuppressedIds(ids)
        self._changing = [
            rule for rule in rules if type(rule).apply not in (Rule.apply, SuppressedIds.apply)
        ]
        penalties = [rule for rule in rules if isinstance(rule, LengthPenalty)]
        self.length_penalty = penalties[0] if penalties else LengthPenalty()
        self._scoring = [rule for rule in rules if type(rule).score is not Rule.score]
        if not penalties:
            self._scoring.append(self.length_penalty)
        self._attending = [
            rule for rule in rules if type(rule).score_attention is not Rule.score_attention
        ]
        prefixes = [rule for rule in rules if isinstance(rule, ForcedPrefix)]
        if len(prefixes) > 1:
            raise InputError(f"rules must hold at most one ForcedPrefix; got {len(prefixes)}.")
        self._prefix = prefixes[0] if prefixes else None
        self.changes_logits = any(
            type(rule).apply is not TokenExclusion.apply for rule in self._changing
        )
        self.excludes = bool(self._changing) and not self.changes_logits
        self.scores_attention = bool(self._attending)
        self.ranks = self.changes_logits or len(self._scoring) > 1 or self.scores_attention

    def start(self, rows: tf.Tensor) -> Any:
        """Returns the states of the rules that change logits, first axis B."""
        return tuple(rule.start(rows) for rule in self._changing)

    def start_prefix(self) -> Prefix | None:
        """Returns the forced prefix, or None without one."""
        if self._prefix is None:
            return None
        ids = tf.cast(self._prefix.ids, tf.int32)
        lengths = self._prefix.lengths
        if lengths is None:
            lengths = tf.reduce_sum(tf.cast(ids != self.special.pad, tf.int32), axis=1)
        padded = tf.pad(ids, [[0, 0], [0, 1]], constant_values=self.special.pad)
        return Prefix(padded, tf.cast(lengths, tf.int32))

    def apply(self, logits: tf.Tensor, context: Context, states: Any) -> tuple[tf.Tensor, Any]:
        """Applies the rules to logits `[N, V]`; an excluded token's become `IMPOSSIBLE`.

        Where nothing but the end token is left, its logit is the model's.
        """
        changed, _ = self._suppressed.apply(logits, context, ())
        next_states = []
        for rule, state in zip(self._changing, states, strict=True):
            new, state = rule.apply(changed, context, state)
            excluded = (changed <= _EXCLUDED) | (new <= _EXCLUDED)
            changed = tf.where(excluded, IMPOSSIBLE, new)
            next_states.append(state)
        is_end = tf.one_hot(self.special.end, logits.shape[-1], on_value=True, off_value=False)
        nothing_left = tf.reduce_max(changed, axis=1) <= _EXCLUDED
        only_end = tf.expand_dims((context.counts + 1 >= context.limits) | nothing_left, 1)
        forced = tf.where(is_end, logits, IMPOSSIBLE)
        return tf.where(only_end, forced, changed), tuple(next_states)

    def find_excluded(self, context: Context, states: Any) -> tf.Tensor:
        """Returns the tokens that a `TokenExclusion` excludes: int32 `[N, E]`, -1 for none."""
        found = [
            rule.find_excluded(context, state)
            for rule, state in zip(self._changing, states, strict=True)
            if isinstance(rule, TokenExclusion)
        ]
        return tf.concat(found, axis=1)

    def score(self, totals: tf.Tensor, lengths: tf.Tensor, attention_scores: Any = ()) -> tf.Tensor:
        """Turns log-probabilities into scores; adds what `score_attention` returned, if given."""
        for rule in self._scoring:
            totals = rule.score(totals, lengths)
        return totals + attention_scores if tf.is_tensor(attention_scores) else totals

    def score_attention(self, attention: tf.Tensor) -> tf.Tensor:
        """Returns what the attention adds to the scores: `[..., S] -> [...]`."""
        return tf.add_n([rule.score_attention(attention) for rule in self._attending])


def ranking_norms(changed: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns what a changed logit exceeds its ranking log-probability by: `[N, V] -> [N]`.

    Over the allowed tokens, the ranking probabilities sum to the model's own probability of them.
    """
    allowed = tf.where(changed <= _EXCLUDED, IMPOSSIBLE, logits)
    return log_norms(changed) - log_norms(allowed) + log_norms(logits)


def log_norms(logits: tf.Tensor) -> tf.Tensor:
    """Computes the logarithm of each row's sum of exponentials: `[N, V] -> [N]`."""
    best = tf.reduce_max(tf.nn.softmax(logits), axis=1)
    return tf.reduce_max(logits, axis=1) - tf.math.log(best)


def strip_prefix(ids: tf.Tensor, prefix: Prefix, limits: tf.Tensor, pad: int) -> tf.Tensor:
    """Removes the forced tokens of ids `[B, K, T]`, and pads to the longest of limits `[B]`."""
    longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))
    positions = number_positions(tf.shape(limits)[0], longest)
    places = tf.minimum(positions + prefix.lengths[:, None], tf.shape(ids)[2] - 1)
    ids = tf.gather(ids, places, axis=2, batch_dims=1)
    return tf.where((positions < limits[:, None])[:, None], ids, pad)
