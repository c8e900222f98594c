"""Each rule against a search in plain Python that applies it to lists."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    ForcedPrefix,
    LengthPenalty,
    MinimumLength,
    MinP,
    NoRepeatedNgrams,
    RepetitionPenalty,
    Rule,
    StepFunctionModel,
    SuppressedIds,
    Temperature,
    TopK,
    TopP,
    beam_search,
    greedy_search,
    sample,
)
from ktransformer.errors import InputError
from tests.decoding.plain_search import (
    EXCLUDED,
    LIMITS,
    PlainSearch,
    assert_finds,
    make_model,
    minimum_length,
    repetition,
    start,
)
from tests.decoding.toy_model import END, PAD, SPECIAL, unpack


@dataclasses.dataclass(frozen=True)
class NoNeighbours(Rule):
    """A user's own rule with state: no token follows one whose id is lower by one."""

    cost: float = 0.25

    def start(self, rows):
        return {"newest": tf.fill([rows], PAD), "steps": tf.zeros([rows, 1])}

    def apply(self, logits, context, state):
        at = tf.gather(context.ids, tf.maximum(context.index - 1, 0), axis=1)
        newest = tf.where(context.index > 0, at, PAD)
        above = tf.one_hot(newest + 1, logits.shape[-1], on_value=True, off_value=False)
        steps = state["steps"] + tf.cast(newest[:, None] == 4, tf.float32)
        ends = tf.one_hot(context.special.end, logits.shape[-1])
        logits = tf.where(above & (newest[:, None] > PAD), -1e9, logits) - steps * self.cost * ends
        return logits, {"newest": newest, "steps": steps}


@dataclasses.dataclass(frozen=True)
class SuppressedAtFirst(SuppressedIds):
    """Never chooses some ids among the first two tokens."""

    def apply(self, logits, context, state):
        changed, state = super().apply(logits, context, state)
        return tf.where(context.index < 2, changed, logits), state


@dataclasses.dataclass(frozen=True)
class LengthReward(Rule):
    """A user's own rule that ranks: each token is worth something (He et al. 2016)."""

    reward: float

    def score(self, totals, lengths):
        return totals + self.reward * tf.cast(lengths, tf.float32)


def suppressed(logits, ids, *, excluded=(4,)):
    return [EXCLUDED if i in excluded else x for i, x in enumerate(logits)]


def no_repeated(logits, ids, *, size):
    grams = {tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)}
    return [
        EXCLUDED if (*ids[len(ids) - size + 1 :], i) in grams and len(ids) >= size - 1 else x
        for i, x in enumerate(logits)
    ]


def temperature(logits, ids, *, value=0.6):
    return [x / value for x in logits]


def top_k(logits, ids, *, k=2):
    return [x if x >= sorted(logits)[-k] else EXCLUDED for x in logits]


def top_p(logits, ids, *, p=0.7):
    shares = np.exp(logits) / np.exp(logits).sum()
    return [
        x if sum(other for other in shares if other > share) < p else EXCLUDED
        for x, share in zip(logits, shares, strict=True)
    ]


def min_p(logits, ids, *, p=0.2):
    return [x if np.exp(x - max(logits)) >= p else EXCLUDED for x in logits]


def no_neighbours(logits, ids):
    ends = 0.25 * ids.count(4)
    return [
        EXCLUDED if ids and i == ids[-1] + 1 else x - (ends if i == END else 0)
        for i, x in enumerate(logits)
    ]


# Rules, and what they do to the logits of a token after a list of ids.
CASES = {
    "suppressed": ([SuppressedIds([4])], [suppressed]),
    "suppressed_at_first": (
        [SuppressedAtFirst([4])],
        [lambda x, ids: suppressed(x, ids) if len(ids) < 2 else x],
    ),
    "minimum": ([MinimumLength(4)], [minimum_length]),
    "unigrams": ([NoRepeatedNgrams(1)], [lambda x, ids: no_repeated(x, ids, size=1)]),
    "bigrams": ([NoRepeatedNgrams(2)], [lambda x, ids: no_repeated(x, ids, size=2)]),
    "trigrams": ([NoRepeatedNgrams(3)], [lambda x, ids: no_repeated(x, ids, size=3)]),
    "repetition": ([RepetitionPenalty(1.7)], [repetition]),
    "temperature": ([Temperature(0.6)], [temperature]),
    "temperature_first": (
        [Temperature(0.6), RepetitionPenalty(1.7)],
        [temperature, repetition],
    ),
    "temperature_of_one": ([Temperature(1), RepetitionPenalty(1.7)], [repetition]),
    "top_k": ([TopK(2)], [top_k]),
    "top_p": ([TopP(0.7)], [top_p]),
    "min_p": ([MinP(0.5)], [lambda x, ids: min_p(x, ids, p=0.5)]),
    "tensors": (
        [
            MinimumLength(tf.constant(4)),
            RepetitionPenalty(tf.constant(1.7)),
            Temperature(tf.constant(0.6)),
            TopK(tf.constant(2)),
            TopP(tf.constant(0.7)),
            MinP(tf.constant(0.2)),
        ],
        [minimum_length, repetition, temperature, top_k, top_p, min_p],
    ),
    "together": (
        [RepetitionPenalty(1.7), SuppressedIds([4]), NoRepeatedNgrams(2), MinimumLength(4)],
        [
            suppressed,
            repetition,
            lambda x, ids: no_repeated(x, ids, size=2),
            minimum_length,
        ],
    ),
    "own": ([NoNeighbours()], [no_neighbours]),
}


@pytest.mark.parametrize("name", CASES)
def test_greedy_search_follows_the_rule(name):
    rules, changes = CASES[name]
    model = make_model(1)
    found = greedy_search(start(model), tf.constant(LIMITS), SPECIAL, rules=rules)
    for row, limit in enumerate(LIMITS):
        assert_finds(found, row, PlainSearch(model, row, limit, changes).greedy())


@pytest.mark.parametrize("name", CASES)
def test_beam_search_ranks_by_the_rule_and_reports_the_model(name):
    rules, changes = CASES[name]
    model = make_model(2)
    found = beam_search(start(model, 3), tf.constant(LIMITS), SPECIAL, beam_size=3, rules=rules)
    for row, limit in enumerate(LIMITS):
        plain = PlainSearch(model, row, limit, changes)
        assert_finds(found, row, plain.beam(3, lambda total, length: total / length))


@pytest.mark.parametrize("name", CASES)
def test_sampling_draws_what_the_rule_allows_as_often_as_it_says(name):
    rules, changes = CASES[name]
    model = make_model(3, sentences=1, scale=1.0)
    rows = 4000
    steps = StepFunctionModel(model.step, model.state([0] * rows))
    found = sample(steps, tf.fill([rows], 6), SPECIAL, rules=rules, seed=4)
    drawn = found.ids.numpy()[:, 0]
    plain = PlainSearch(model, 0, 6, changes)
    for before in [], [3], [3, 4], [5, 5, 5]:
        rest = drawn[(drawn[:, : len(before)] == before).all(axis=1), len(before)]
        if len(rest) > 300:
            ranks = {token: np.exp(rank) for token, (rank, _) in plain.gains(before).items()}
            assert set(rest) <= set(ranks)
            for token, share in ranks.items():
                expected = share / sum(ranks.values())
                assert (rest == token).mean() == pytest.approx(expected, abs=0.08)


def test_a_rule_that_ranks_changes_the_choice_and_not_the_reported_score():
    model = make_model(2)
    rules = [LengthPenalty(0), LengthReward(1.5)]
    found = beam_search(start(model, 3), tf.constant(LIMITS), SPECIAL, beam_size=3, rules=rules)
    plainly = beam_search(
        start(model, 3), tf.constant(LIMITS), SPECIAL, beam_size=3, rules=rules[:1]
    )
    assert (found.lengths.numpy() > plainly.lengths.numpy()).any()
    for row, limit in enumerate(LIMITS):
        ids, total = PlainSearch(model, row, limit, []).beam(3, lambda x, length: x + 1.5 * length)
        length = int(found.lengths[row, 0])
        assert found.ids[row, 0, :length].numpy().tolist() == ids
        assert found.log_probabilities[row, 0].numpy() == pytest.approx(total, rel=1e-4)


PREFIXES = [[3, 4], [5], [], [END, 3], [4, 4], [3]]


@pytest.mark.parametrize("case", ["bigrams", "minimum", None])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_search_goes_on_after_each_sentences_own_prefix(beam_size, case):
    rules, changes = CASES[case] if case else ([], [])
    model = make_model(5)
    prefix = tf.constant([[*ids, PAD, PAD][:2] for ids in PREFIXES])
    rules = [ForcedPrefix(prefix), *rules]
    steps = start(model, beam_size)
    if beam_size == 1:
        found = greedy_search(steps, tf.constant(LIMITS), SPECIAL, rules=rules)
    else:
        found = beam_search(steps, tf.constant(LIMITS), SPECIAL, beam_size=beam_size, rules=rules)
    assert found.ids.shape[2] == max(LIMITS)
    for row, limit in enumerate(LIMITS):
        plain = PlainSearch(model, row, limit, changes, PREFIXES[row])
        expected = plain.beam(beam_size, lambda total, length: total / length)
        assert_finds(found, row, expected if beam_size > 1 else plain.greedy())


def test_a_sample_begins_after_its_prefix():
    model = make_model(5, sentences=1)
    steps = StepFunctionModel(model.step, model.state([0] * 50))
    rules = [ForcedPrefix(tf.fill([50, 2], 3)), TopK(1)]
    found = sample(steps, tf.fill([50], 4), SPECIAL, rules=rules)
    expected = PlainSearch(model, 0, 4, [], [3, 3]).greedy()
    for row in range(50):
        assert_finds(found, row, expected)


def test_the_end_is_left_where_rules_exclude_every_token():
    model = make_model(1, sentences=1)
    rules = [SuppressedIds([3, 4, 5]), MinimumLength(3)]
    found = greedy_search(start(model), tf.constant([6]), SPECIAL, rules=rules)
    assert found.ids[0, 0].numpy().tolist() == [END, PAD, PAD, PAD, PAD, PAD]


def test_scores_and_log_probabilities_agree_without_rules():
    model = make_model(4)
    rules = [LengthPenalty(0.6)]
    found = beam_search(
        start(model, 4), tf.constant(LIMITS), SPECIAL, beam_size=4, n_best=4, rules=rules
    )
    for row in range(6):
        for place, (_, ids) in enumerate(unpack(found, row)):
            total = found.log_probabilities[row, place].numpy()
            assert total == pytest.approx(model.log_probability(row, ids), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SuppressedIds([-1]), r"ids.*-1"),
        (lambda: MinimumLength(-1), r"length.*-1"),
        (lambda: NoRepeatedNgrams(0), r"size.*0"),
        (lambda: RepetitionPenalty(0), r"penalty.*0"),
        (lambda: Temperature(tf.constant([1.0])), r"temperature.*\(1,\)"),
        (lambda: greedy_search(None, None, SPECIAL, rules=[TopK]), r"rules.*TopK"),
        (
            lambda: greedy_search(
                None, None, SPECIAL, rules=[ForcedPrefix([[3]]), ForcedPrefix([[3]])]
            ),
            r"ForcedPrefix.*2",
        ),
    ],
)
def test_a_wrong_parameter_is_an_error_that_names_it(make, message):
    with pytest.raises(InputError, match=message):
        make()
