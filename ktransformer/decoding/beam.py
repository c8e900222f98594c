"""Beam search."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.candidates import Candidates, find_candidates
from ktransformer.decoding.chunks import longest_target, run_steps
from ktransformer.decoding.hypotheses import (
    IMPOSSIBLE,
    Hypotheses,
    SpecialIds,
    number_positions,
    write_token,
)
from ktransformer.decoding.rule_set import RuleSet, log_norms, ranking_norms, strip_prefix
from ktransformer.decoding.rules import Context, Rule
from ktransformer.decoding.search_model import SearchModel
from ktransformer.errors import InputError


class _Beams(NamedTuple):
    """The state of the sentences. Letters: B sentences, K places, T tokens with a forced prefix.

    The model's own log-probabilities are kept only where the scores do not tell them.
    """

    limits: tf.Tensor  # [B]
    positions: tf.Tensor  # [B, T]: 0, 1, ...
    live_ids: tf.Tensor  # [B, K, T]
    live_totals: tf.Tensor  # [B, K], log-probabilities after the rules, best first.
    parents: tf.Tensor  # [B, K], which place of the last step each live hypothesis continues.
    finished_ids: tf.Tensor  # [B, K, T], frozen; only a better finished hypothesis replaces one.
    finished_scores: tf.Tensor  # [B, K], best first.
    finished_lengths: tf.Tensor  # [B, K]
    finished_count: tf.Tensor  # [B], how many have ever finished.
    done: tf.Tensor  # [B]
    prefix: Any = ()  # Prefix, or () for none.
    rule_states: Any = ()  # Of each rule that changes logits, first axes [B, K].
    live_own: Any = ()  # [B, K], the model's log-probabilities, or ().
    finished_own: Any = ()  # [B, K], likewise.
    finished_attention: Any = ()  # [B, K], what attention added to finished_scores, or ().


class _Step(NamedTuple):
    """The 2K best continuations of each sentence, and what they bring."""

    found: Candidates
    own: Any  # [B, 2K], the model's log-probabilities, or ().
    rule_states: Any  # First axes [B, K], of the hypotheses that are continued.
    attention_scores: Any = ()  # [B, 2K], what attention adds to the scores, or ().


def beam_search(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    *,
    beam_size: int,
    n_best: int | tf.Tensor = 1,
    rules: Sequence[Rule] = (),
    early_stopping: bool = True,
    score_forced_end: bool = True,
) -> Hypotheses:
    """Keeps the `beam_size` best live hypotheses at each step.

    Live hypotheses are all of one length and are ranked by log-probability. One that ends among
    the best `beam_size` is finished: it is frozen and ranked by its score, log-probability /
    length ** exponent. A sentence is done when `beam_size` hypotheses have finished (so that
    beam 1 is greedy search), or as soon as no live one can still reach the `n_best` finished ones:
    the log-probability of a live one only falls, and its length is bounded by the limit. At the
    limit only the end token is left, at the price that the model asks for it, or at none without
    `score_forced_end`.

    Without `early_stopping` any number of hypotheses finish, and the best `beam_size` are kept. A
    sentence is done when they are so many and the best live one, scored as if it ended at its
    present length, is not above the worst of them. This is `early_stopping=False` of Hugging
    Face's `generate`. With a length penalty it may miss a longer hypothesis that would have won.

    Rules that change logits also change the log-probabilities that rank (see `Rule`), never those
    that are returned. The best hypothesis may then not be the one with the highest score.

    Args:
        model: Predicts the next token.
        limits: Int32 `[B]`, the most tokens of each target, the end token included.
        special: The special ids.
        beam_size: K, the places of the beam.
        n_best: How many hypotheses to return, at most `beam_size`; an int32 scalar tensor must be
            from 1 to that.
        rules: Decoding rules; see `ktransformer.decoding.rules`.
        early_stopping: Whether a sentence is done with its first `beam_size` finished hypotheses.
        score_forced_end: Whether the end token at the limit counts in the log-probability.

    Returns:
        `Hypotheses` with K = `n_best`.

    Raises:
        InputError: `beam_size` or `n_best` is below 1, `n_best` is above `beam_size`, or `rules`
            holds another object than a `Rule`, or two forced prefixes, or a rule that scores
            attention, and the model has no source.

    Reference: Wu et al. 2016, section 7.
    """
    if beam_size < 1 or not (tf.is_tensor(n_best) or 1 <= n_best <= beam_size):
        raise InputError(
            f"n_best must be from 1 to beam_size; got n_best={n_best}, beam_size={beam_size}."
        )
    rule_set = RuleSet(rules, special)
    if rule_set.scores_attention:
        model = model.with_attention()

    def advance(index: tf.Tensor, beams: _Beams, state: Any) -> tuple[_Beams, Any]:
        step, state = _expand(model, index, beams, state, rule_set, score_forced_end)
        beams = _select(index, beams, step, rule_set, n_best if early_stopping else None)
        return beams, state

    beams = run_steps(model, beam_size, _start(model, limits, rule_set, beam_size), advance)
    return _collect(beams, limits, rule_set, n_best)


def _start(model: SearchModel, limits: tf.Tensor, rules: RuleSet, beam_size: int) -> _Beams:
    rows = tf.shape(limits)[0]
    prefix = rules.start_prefix()
    if prefix is not None:
        limits = limits + prefix.lengths
    longest = longest_target(model, limits)
    nothing = tf.fill([rows, beam_size, longest], rules.special.pad)
    # All places hold the empty hypothesis; all but the first are dead, or it would win K times.
    first = tf.one_hot(tf.zeros([rows], tf.int32), beam_size, on_value=0.0, off_value=IMPOSSIBLE)
    own = tf.zeros([rows, beam_size]) if rules.ranks else ()
    return _Beams(
        limits=limits,
        positions=number_positions(rows, longest),
        live_ids=nothing,
        live_totals=first,
        parents=tf.zeros([rows, beam_size], tf.int32) + tf.range(beam_size),
        finished_ids=nothing,
        finished_scores=tf.fill([rows, beam_size], IMPOSSIBLE),
        finished_lengths=tf.zeros([rows, beam_size], tf.int32),
        finished_count=tf.zeros([rows], tf.int32),
        done=tf.zeros([rows], tf.bool),
        prefix=prefix or (),
        rule_states=tf.nest.map_structure(
            lambda x: tf.repeat(tf.expand_dims(x, 1), beam_size, axis=1), rules.start(rows)
        ),
        live_own=own,
        finished_own=own,
        finished_attention=tf.zeros([rows, beam_size]) if rules.scores_attention else (),
    )


def _expand(
    model: SearchModel,
    index: tf.Tensor,
    beams: _Beams,
    state: Any,
    rules: RuleSet,
    score_forced_end: bool,
) -> tuple[_Step, Any]:
    """Finds the 2K best continuations of each sentence's live hypotheses.

    At most K of 2K can be end tokens, one a parent, so that at least K stay live.

    Returns:
        The continuations and the model's next state.
    """
    beam_size = beams.live_totals.shape[1]
    newest = tf.gather(beams.live_ids, tf.maximum(index - 1, 0), axis=2)  # [B, K]
    newest = tf.where(index == 0, rules.special.start, newest)
    logits, state = model.step(tf.reshape(newest, [-1]), index, state, beams.parents)
    logits = tf.cast(logits, tf.float32)  # [B * K, V]
    if rules.changes_logits:
        step = _expand_by_rules(index, beams, logits, rules)
    else:
        excluded = None
        if rules.excludes:
            states = tf.nest.map_structure(_flat, beams.rule_states)
            excluded = rules.find_excluded(_see(index, beams, rules), states)
        found = find_candidates(
            logits,
            beams.live_totals,
            2 * beam_size,
            rules.special,
            at_limit=index >= beams.limits - 1,
            excluded=excluded,
        )
        own = found.totals if _is_kept(beams.live_own) else ()
        step = _Step(found, own, beams.rule_states)
    if beams.prefix:
        step = _force(beams, step, *beams.prefix.at(index))
    if not score_forced_end:
        step = _force(beams, step, index >= beams.limits - 1, rules.special.end)
    if rules.scores_attention:
        scores = rules.score_attention(model.attention(state))  # [B, K]
        scores = tf.gather(scores, step.found.parents, batch_dims=1)
        step = step._replace(attention_scores=scores)
    return step, state


def _expand_by_rules(index: tf.Tensor, beams: _Beams, logits: tf.Tensor, rules: RuleSet) -> _Step:
    """Finds the continuations that are best after the rules, and their own log-probabilities."""
    beam_size, size = beams.live_totals.shape[1], logits.shape[-1]
    context = _see(index, beams, rules)
    states = tf.nest.map_structure(_flat, beams.rule_states)
    changed, states = rules.apply(logits, context, states)
    norms = ranking_norms(changed, logits)
    # The rules have excluded the suppressed ids and forced the end at the limit.
    special = rules.special._replace(suppressed=())
    found = find_candidates(changed, beams.live_totals, 2 * beam_size, special, norms=norms)

    places = found.parents * size + found.tokens
    gained = tf.gather(tf.reshape(logits, [-1, beam_size * size]), places, batch_dims=1)
    base = beams.live_own - tf.reshape(log_norms(logits), [-1, beam_size])
    own = gained + tf.gather(base, found.parents, batch_dims=1)

    def by_sentence(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.reshape(after, tf.shape(before)), before.shape)

    return _Step(found, own, tf.nest.map_structure(by_sentence, beams.rule_states, states))


def _see(index: tf.Tensor, beams: _Beams, rules: RuleSet) -> Context:
    """Returns the live hypotheses as rules see them."""
    beam_size = beams.live_totals.shape[1]

    def spread(tensor: tf.Tensor) -> tf.Tensor:  # [B, ...] -> [B * K, ...]
        return _flat(tf.repeat(tf.expand_dims(tensor, 1), beam_size, axis=1))

    started = beams.prefix.lengths if beams.prefix else tf.zeros_like(beams.limits)
    return Context(
        index=index,
        ids=_flat(beams.live_ids),
        written=spread(beams.positions < index),
        counts=spread(index - started),
        limits=spread(beams.limits - started),
        special=rules.special,
    )


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    """Joins the first two axes: `[B, K, ...] -> [B * K, ...]`."""
    return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], axis=0))


def _force(beams: _Beams, step: _Step, forced: tf.Tensor, tokens: Any) -> _Step:
    """Continues each hypothesis by its sentence's token `[B]`, at no price, where it is forced."""
    beam_size = beams.live_totals.shape[1]
    forced = tf.expand_dims(forced, 1)
    more = [[0, 0], [0, beam_size]]
    totals = tf.pad(beams.live_totals, more, constant_values=IMPOSSIBLE)
    parents = tf.minimum(tf.range(2 * beam_size), beam_size - 1)
    found = Candidates(
        totals=tf.where(forced, totals, step.found.totals),
        tokens=tf.where(forced, tf.expand_dims(tokens, -1), step.found.tokens),
        parents=tf.where(forced, parents, step.found.parents),
    )
    if _is_kept(step.own):
        own = tf.pad(beams.live_own, more)
        step = step._replace(own=tf.where(forced, own, step.own))
    return step._replace(found=found)


def _select(
    index: tf.Tensor, beams: _Beams, step: _Step, rules: RuleSet, n_best: int | tf.Tensor | None
) -> _Beams:
    """Chooses the finished and the live hypotheses among those of before and the new ones.

    `n_best` is the number of finished ones that no live one can reach any more; None without early
    stopping.
    """
    found, beam_size = step.found, beams.live_totals.shape[1]
    length = reached = index + 1
    limits = beams.limits
    ids = tf.gather(beams.live_ids, found.parents, batch_dims=1)  # [B, 2K, T]
    ids = write_token(ids, tf.expand_dims(beams.positions, 1), index, found.tokens)
    is_end = found.tokens == rules.special.end
    if beams.prefix:
        length = tf.expand_dims(length - beams.prefix.lengths, 1)  # [B, 1]
        limits = limits - beams.prefix.lengths
        is_end = is_end & (length > 0)
    ends = is_end & (found.totals > IMPOSSIBLE / 2) & ~beams.done[:, None]
    ends = ends & (tf.range(2 * beam_size) < beam_size)  # [B, 2K]
    scores = rules.score(found.totals, length, step.attention_scores)
    scores = tf.where(ends, scores, IMPOSSIBLE)
    finished_scores, best = tf.math.top_k(
        tf.concat([beams.finished_scores, scores], axis=1), beam_size
    )
    new_lengths = tf.zeros_like(found.tokens) + length
    finished_count = beams.finished_count + tf.reduce_sum(tf.cast(ends, tf.int32), axis=1)
    live_totals, chosen = tf.math.top_k(tf.where(is_end, IMPOSSIBLE, found.totals), beam_size)
    if n_best is None:
        reachable = rules.score(live_totals[:, 0], tf.reshape(tf.maximum(length, 1), [-1]))
        is_done = finished_scores[:, -1] >= reachable
    else:
        reachable = rules.score(live_totals[:, 0], limits)
        is_done = (finished_count >= beam_size) | (finished_scores[:, n_best - 1] >= reachable)
    parents = tf.gather(found.parents, chosen, batch_dims=1)

    def finished(before: tf.Tensor, new: tf.Tensor) -> tf.Tensor:  # [B, K, ...], [B, 2K, ...]
        return tf.gather(tf.concat([before, new], axis=1), best, batch_dims=1)

    return _Beams(
        limits=beams.limits,
        positions=beams.positions,
        live_ids=tf.gather(ids, chosen, batch_dims=1),
        live_totals=live_totals,
        parents=parents,
        finished_ids=finished(beams.finished_ids, ids),
        finished_scores=finished_scores,
        finished_lengths=finished(beams.finished_lengths, new_lengths),
        finished_count=finished_count,
        done=beams.done | is_done | (reached >= beams.limits),
        prefix=beams.prefix,
        rule_states=tf.nest.map_structure(
            lambda x: tf.gather(x, parents, batch_dims=1), step.rule_states
        ),
        live_own=tf.nest.map_structure(lambda x: tf.gather(x, chosen, batch_dims=1), step.own),
        finished_own=tf.nest.map_structure(finished, beams.finished_own, step.own),
        finished_attention=tf.nest.map_structure(
            finished, beams.finished_attention, step.attention_scores
        ),
    )


def _collect(beams: _Beams, limits: tf.Tensor, rules: RuleSet, n_best: Any) -> Hypotheses:
    """Returns the `n_best` finished hypotheses; those that do not exist are padding."""
    exists = beams.finished_scores > IMPOSSIBLE / 2
    ids = tf.where(exists[..., None], beams.finished_ids, rules.special.pad)
    lengths = tf.where(exists, beams.finished_lengths, 0)
    if beams.prefix:
        ids = strip_prefix(ids, beams.prefix, limits, rules.special.pad)
    if _is_kept(beams.finished_own):
        totals = beams.finished_own
        scores = rules.score(totals, tf.maximum(lengths, 1), beams.finished_attention)
        scores = tf.where(exists, scores, IMPOSSIBLE)
    else:
        scores = beams.finished_scores
        totals = rules.length_penalty.total(scores, lengths)
    totals = tf.where(exists, totals, IMPOSSIBLE)
    return Hypotheses(*(found[:, :n_best] for found in (ids, scores, lengths, totals)))


def _is_kept(own: Any) -> bool:
    """Tells whether log-probabilities of the model are kept beside those that rank."""
    return isinstance(own, tf.Tensor)
