"""The base class of decoding rules, and the context in which a rule is applied."""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.hypotheses import IMPOSSIBLE, SpecialIds
from ktransformer.errors import InputError
from ktransformer.numbers import to_float, to_integer


class Context(NamedTuple):
    """The hypotheses at one step of a search. N = B * K, T is the longest limit.

    Attributes:
        index: Int32 scalar, position of the token to choose, from 0; a forced prefix counts.
        ids: Int32 `[N, T]`, tokens chosen so far, a forced prefix included, then padding.
        written: Boolean `[N, T]`, True at positions before `index`.
        counts: Int32 `[N]`, tokens chosen so far, without a forced prefix.
        limits: Int32 `[N]`, the most tokens, the end token included, without a forced prefix.
        special: The special ids.
    """

    index: tf.Tensor
    ids: tf.Tensor
    written: tf.Tensor
    counts: tf.Tensor
    limits: tf.Tensor
    special: SpecialIds


class Rule:
    """Changes the choice of the next token, or the scores that finished hypotheses compete with.

    Greedy search, sampling and beam search take rules as `rules=(...)` and apply them in that
    order, in the graph. A subclass overrides one of `apply`, `score` and `score_attention`, and
    `start` if `apply` keeps state. Make it a frozen dataclass whose fields are Python numbers or
    scalar tensors.

    The model's own log-probability is reported whatever the rules do. Beam search ranks its live
    hypotheses by the probabilities after the rules: those of the allowed tokens sum to the
    probability that the model itself gives to them, so that excluding a token does not make the
    others more probable.
    """

    def start(self, rows: tf.Tensor) -> Any:
        """Returns the state before the first step.

        Args:
            rows: Int32 scalar B, the number of sentences.

        Returns:
            A nest of tensors whose first axis is B. The search repeats it for the K hypotheses
            of a sentence, and reorders it with them. `()` for no state, the default.
        """
        return ()

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        """Changes the logits of the next token.

        A logit of `IMPOSSIBLE` excludes a token; a rule cannot allow a token again that the model
        or a rule before it has excluded. At a hypothesis' limit, and where the rules exclude all
        tokens, the search allows the end token alone.

        Args:
            logits: Float32 `[N, V]`, after the rules before this one.
            context: The hypotheses so far.
            state: The rule's state, as `start` or the last step returned it, first axis N.

        Returns:
            Logits `[N, V]`, and the next state, of the same structure, shapes and types.
        """
        return logits, state

    def score(self, totals: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Turns the log-probabilities of finished hypotheses into the scores that rank them.

        Beam search also scores the best live hypothesis, at its limit, as a bound: it stops when
        no finished hypothesis can be overtaken. So a score must not fall when its total rises.

        Args:
            totals: Float32, any shape.
            lengths: Int32, a shape that broadcasts to it: tokens, the end token included.

        Returns:
            Float32 scores, the shape of `totals`.
        """
        return totals

    def score_attention(self, attention: tf.Tensor) -> tf.Tensor:
        """Returns what a finished hypothesis' attention to the source adds to its score.

        It is added after every rule's `score`. A search keeps the attention only where a rule
        overrides this, and raises if the model has no source.

        Args:
            attention: Float32 `[..., S]`, for each source position the cross-attention weights of
                the model's last block, averaged over the heads and summed over the tokens of the
                hypothesis, those of a forced prefix included; 1 at padding.

        Returns:
            Float32 `[...]`, at most 0: beam search takes 0 for what is not finished.
        """
        return tf.zeros(tf.shape(attention)[:-1])


class TokenExclusion(Rule):
    """A rule that excludes a few tokens, whatever their logits; its state does not change.

    A search without a rule of another kind drops these tokens among its candidates, which costs
    far less than a pass over all logits. A subclass overrides `find_excluded`, and not `apply`.
    """

    def find_excluded(self, context: Context, state: Any) -> tf.Tensor:
        """Returns the excluded ids, never the end token's: int32 `[N, E]`, -1 for none."""
        raise NotImplementedError

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        ids = self.find_excluded(context, state)
        excluded = mark_tokens(tf.maximum(ids, 0), ids >= 0, logits.shape[-1])
        return tf.where(excluded, IMPOSSIBLE, logits), state


def mark_tokens(ids: tf.Tensor, chosen: tf.Tensor, vocabulary_size: int) -> tf.Tensor:
    """Marks the tokens that occur at chosen positions: `[N, T]`, `[N, T]` -> boolean `[N, V]`."""
    rows = tf.shape(ids)[0]
    row = tf.zeros_like(ids) + tf.expand_dims(tf.range(rows), 1)
    places = tf.reshape(tf.stack([row, ids], axis=2), [-1, 2])  # [N * T, 2]
    hits = tf.reshape(tf.cast(chosen, tf.int32), [-1])
    return tf.scatter_nd(places, hits, tf.stack([rows, vocabulary_size])) > 0


def checked(
    name: str,
    value: Any,
    *,
    least: float = 0,
    most: float = math.inf,
    open_below: bool = False,
    integer: bool = False,
) -> Any:
    """Returns a rule's parameter: a scalar tensor as it is, anything else as a Python number.

    Raises:
        InputError: It is no number, a tensor that is no scalar, or a number outside its range.
    """
    if tf.is_tensor(value):
        if value.shape.rank != 0:
            raise InputError(f"{name} must be a scalar; got a tensor of shape {value.shape}.")
        return value
    if integer:
        return to_integer(name, value, least=int(least))
    number = to_float(name, value)
    inside = number > least if open_below else number >= least
    if not (inside and number <= most and math.isfinite(number)):
        rule = f"{'above' if open_below else 'at least'} {least} and finite"
        if most < math.inf:
            rule = f"in {'(' if open_below else '['}{least}, {most}]"
        raise InputError(f"{name} must be {rule}; got {name}={number}.")
    return number
