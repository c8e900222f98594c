"""Greedy search: follows one hypothesis a sentence."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.candidates import find_candidates
from ktransformer.decoding.chunks import longest_target, run_steps
from ktransformer.decoding.hypotheses import (
    Hypotheses,
    SpecialIds,
    number_positions,
    write_token,
)
from ktransformer.decoding.rule_set import RuleSet, log_norms, strip_prefix
from ktransformer.decoding.rules import Context, Rule
from ktransformer.decoding.search_model import SearchModel


class _Texts(NamedTuple):
    """The state of the sentences. Letters: B sentences, T tokens, a forced prefix included."""

    limits: tf.Tensor  # [B]
    positions: tf.Tensor  # [B, T]: 0, 1, ...
    newest: tf.Tensor  # [B]
    ids: tf.Tensor  # [B, T]
    totals: tf.Tensor  # [B], log-probabilities.
    lengths: tf.Tensor  # [B]
    done: tf.Tensor  # [B]
    prefix: Any  # Prefix, or () for none.
    rule_states: Any  # Of each rule that changes logits, first axis B.
    attention_scores: Any = ()  # [B], what attention adds to the scores, or ().


def greedy_search(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    rules: Sequence[Rule] = (),
    score_forced_end: bool = True,
) -> Hypotheses:
    """Takes the most probable token at each step.

    A hypothesis that reaches its limit is given the end token there, at the price that the model
    asks for it, so that a score is the model's own for the whole sequence; at none without
    `score_forced_end`.

    Args:
        model: Predicts the next token.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        rules: Decoding rules; see `ktransformer.decoding.rules`.
        score_forced_end: Whether the end token at the limit counts in the log-probability.

    Returns:
        `Hypotheses` with K = 1.

    Raises:
        InputError: `rules` holds another object than a `Rule`, or two forced prefixes, or a rule
            that scores attention, and the model has no source.
    """
    rule_set = RuleSet(rules, special)
    if rule_set.scores_attention:
        model = model.with_attention()

    def advance(index: tf.Tensor, texts: _Texts, state: Any) -> tuple[_Texts, Any]:
        logits, state = model.step(texts.newest, index, state, None)
        chosen, totals, rule_states = _choose(rule_set, index, texts, tf.cast(logits, tf.float32))
        ends = chosen == special.end
        if texts.prefix:
            forced, tokens = texts.prefix.at(index)
            chosen, ends = tf.where(forced, tokens, chosen), ends & ~forced
            totals = tf.where(forced, texts.totals, totals)
        if not score_forced_end:
            totals = tf.where(index >= texts.limits - 1, texts.totals, totals)
        chosen = tf.where(texts.done, special.pad, chosen)
        attention_scores = texts.attention_scores
        if rule_set.scores_attention:
            new = rule_set.score_attention(model.attention(state)[:, 0])
            attention_scores = tf.where(texts.done, attention_scores, new)
        return _Texts(
            limits=texts.limits,
            positions=texts.positions,
            newest=chosen,
            ids=write_token(texts.ids, texts.positions, index, chosen),
            totals=tf.where(texts.done, texts.totals, totals),
            lengths=texts.lengths + tf.where(texts.done, 0, 1),
            done=texts.done | ends,
            prefix=texts.prefix,
            rule_states=rule_states,
            attention_scores=attention_scores,
        ), state

    texts = run_steps(model, 1, _start(model, limits, special, rule_set), advance)
    ids, lengths = tf.expand_dims(texts.ids, 1), texts.lengths
    if texts.prefix:
        ids = strip_prefix(ids, texts.prefix, limits, special.pad)
        lengths = lengths - texts.prefix.lengths
    scores = rule_set.score(texts.totals, tf.maximum(lengths, 1), texts.attention_scores)
    return Hypotheses(ids, *(tf.expand_dims(found, 1) for found in (scores, lengths, texts.totals)))


def _choose(
    rules: RuleSet, index: tf.Tensor, texts: _Texts, logits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, Any]:
    """Chooses tokens `[B]`; returns them, the totals with them and the rules' next states."""
    if not rules.changes_logits:
        excluded = None
        if rules.excludes:
            excluded = rules.find_excluded(_see(index, texts, rules), texts.rule_states)
        best = find_candidates(
            logits,
            texts.totals[:, None],
            1,
            rules.special,
            at_limit=index >= texts.limits - 1,
            excluded=excluded,
        )
        return best.tokens[:, 0], best.totals[:, 0], texts.rule_states
    changed, states = rules.apply(logits, _see(index, texts, rules), texts.rule_states)
    chosen = tf.argmax(changed, axis=1, output_type=tf.int32)
    gained = tf.gather(logits, chosen, batch_dims=1) - log_norms(logits)
    return chosen, texts.totals + gained, states


def _see(index: tf.Tensor, texts: _Texts, rules: RuleSet) -> Context:
    """Returns the hypotheses as rules see them."""
    started = texts.prefix.lengths if texts.prefix else 0
    return Context(
        index=index,
        ids=texts.ids,
        written=texts.positions < index,
        counts=tf.zeros_like(texts.limits) + index - started,
        limits=texts.limits - started,
        special=rules.special,
    )


def _start(model: SearchModel, limits: tf.Tensor, special: SpecialIds, rules: RuleSet) -> _Texts:
    rows = tf.shape(limits)[0]
    prefix = rules.start_prefix()
    if prefix is not None:
        limits = limits + prefix.lengths
    longest = longest_target(model, limits)
    return _Texts(
        limits=limits,
        positions=number_positions(rows, longest),
        newest=tf.fill([rows], special.start),
        ids=tf.fill([rows, longest], special.pad),
        totals=tf.zeros([rows]),
        lengths=tf.zeros([rows], tf.int32),
        done=tf.zeros([rows], tf.bool),
        prefix=prefix or (),
        rule_states=rules.start(rows),
        attention_scores=tf.zeros([rows]) if rules.scores_attention else (),
    )
