"""The coverage penalty against a search in plain Python that adds up the attention."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    Coverage,
    ForcedPrefix,
    RepetitionPenalty,
    StepFunctionModel,
    TopK,
    beam_search,
    greedy_search,
    sample,
)
from ktransformer.errors import InputError
from tests.decoding.plain_search import (
    LIMITS,
    PlainSearch,
    assert_finds,
    make_model,
    repetition,
    start,
)
from tests.decoding.toy_model import END, PAD, SPECIAL, START, unpack

SOURCE_LENGTHS = [4, 1, 2, 4, 3, 2]
PENALTY = 0.4


class AttendingModel(StepFunctionModel):
    """A toy model that pays attention by sentence, position and newest token."""

    def __init__(self, model, beam_size=1):
        self.toy = model
        shape = (len(model.table), *model.table.shape[1:3], max(SOURCE_LENGTHS))
        weights = np.random.default_rng(9).exponential(size=shape) ** 3
        self.real = np.arange(shape[-1]) < np.array(SOURCE_LENGTHS)[: shape[0], None]
        weights = weights * self.real[:, None, None]
        self.weights = (weights / weights.sum(axis=-1, keepdims=True)).astype("float32")
        padding = tf.repeat(tf.cast(~self.real, tf.float32), beam_size, axis=0)
        state = {**model.state(range(shape[0]), beam_size), "attention": padding}
        super().__init__(self.attending_step, state)

    def attending_step(self, ids, index, state):
        logits, others = self.toy.step(ids, index, state)
        where = tf.stack([state["sentence"], tf.fill(tf.shape(ids), index), ids], axis=1)
        attention = state["attention"] + tf.gather_nd(tf.constant(self.weights), where)
        return logits, {**others, "attention": attention}

    def with_attention(self):
        return self

    def attention(self, state):
        return state["attention"]

    def covered(self, sentence, ids):
        """The formula of Wu et al. 2016 for one sequence of tokens."""
        inputs = [START, *ids[:-1]]
        weights = [self.weights[sentence, i, newest] for i, newest in enumerate(inputs)]
        sums = np.sum(weights, axis=0, dtype="float64")[self.real[sentence]]
        return PENALTY * np.log(np.minimum(sums, 1)).sum()


@pytest.mark.parametrize(
    ("beam_size", "rules", "changes"),
    [(2, [], []), (4, [], []), (3, [RepetitionPenalty(1.7)], [repetition])],
    ids=["few", "many", "with a rule that changes logits"],
)
def test_beam_search_takes_the_sequence_that_covers_its_source(beam_size, rules, changes):
    toy = make_model(2)
    model = AttendingModel(toy, beam_size)
    rules = [*rules, Coverage(tf.constant(PENALTY))]
    found = beam_search(model, tf.constant(LIMITS), SPECIAL, beam_size=beam_size, rules=rules)
    for row, limit in enumerate(LIMITS):
        ids, total = PlainSearch(toy, row, limit, changes).beam(
            beam_size,
            lambda total, length: total / length,
            added=lambda ids, row=row: model.covered(row, ids),
            bounded=False,
        )
        assert_finds(found, row, (ids, total), added=model.covered(row, ids))


def test_every_hypothesis_has_the_score_of_its_own_attention():
    toy = make_model(2)
    model = AttendingModel(toy, 4)
    found = beam_search(
        model, tf.constant(LIMITS), SPECIAL, beam_size=4, n_best=4, rules=[Coverage(PENALTY)]
    )
    for row in range(len(LIMITS)):
        scores = [score for score, _ in unpack(found, row)]
        assert scores == sorted(scores, reverse=True)
        for score, ids in unpack(found, row):
            expected = toy.log_probability(row, ids) / len(ids) + model.covered(row, ids)
            assert score == pytest.approx(expected, rel=1e-4)


def test_coverage_changes_which_sequence_is_the_best():
    found, plainly = (
        beam_search(
            AttendingModel(make_model(2), 4), tf.constant(LIMITS), SPECIAL, beam_size=4, rules=rules
        )
        for rules in ([Coverage(PENALTY)], [])
    )
    assert (found.ids.numpy() != plainly.ids.numpy()).any()


def test_greedy_search_and_sampling_write_the_same_tokens_with_another_score():
    toy = make_model(1)
    model, limits = AttendingModel(toy), tf.constant(LIMITS)
    plainly = greedy_search(start(toy), limits, SPECIAL)
    for found in (
        greedy_search(model, limits, SPECIAL, rules=[Coverage(PENALTY)]),
        sample(model, limits, SPECIAL, rules=[Coverage(PENALTY), TopK(1)]),
    ):
        assert (found.ids.numpy() == plainly.ids.numpy()).all()
        for row in range(len(LIMITS)):
            ids = found.ids[row, 0, : found.lengths[row, 0]].numpy().tolist()
            total = plainly.log_probabilities[row, 0].numpy()
            assert_finds(found, row, (ids, total), added=model.covered(row, ids))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_tokens_of_a_forced_prefix_cover_the_source_too(beam_size):
    toy = make_model(5)
    prefixes = [[3, 4], [5], [], [END, 3], [4, 4], [3]]
    ids = tf.constant([[*prefix, PAD, PAD][:2] for prefix in prefixes])
    model, limits = AttendingModel(toy, beam_size), tf.constant(LIMITS)
    rules = [ForcedPrefix(ids), Coverage(PENALTY)]
    if beam_size == 1:
        found = greedy_search(model, limits, SPECIAL, rules=rules)
    else:
        found = beam_search(model, limits, SPECIAL, beam_size=beam_size, rules=rules)
    for row, (limit, prefix) in enumerate(zip(LIMITS, prefixes, strict=True)):
        plain = PlainSearch(toy, row, limit, [], prefix)

        def added(ids, row=row, prefix=prefix):
            return model.covered(row, [*prefix, *ids])

        expected = (
            plain.greedy()
            if beam_size == 1
            else plain.beam(
                beam_size, lambda total, length: total / length, added=added, bounded=False
            )
        )
        assert_finds(found, row, expected, added=added(expected[0]))


def test_a_position_without_any_attention_costs_a_finite_amount():
    model = AttendingModel(make_model(1))
    model.weights[...] = 0
    found = greedy_search(model, tf.constant(LIMITS), SPECIAL, rules=[Coverage(1.0)])
    cost = found.scores - found.log_probabilities / tf.cast(found.lengths, tf.float32)
    expected = np.log(1e-9) * np.array(SOURCE_LENGTHS)
    np.testing.assert_allclose(cost[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("search", [greedy_search, sample, beam_search])
def test_a_model_without_a_source_is_an_error(search):
    options = {"beam_size": 2} if search is beam_search else {}
    with pytest.raises(InputError, match=r"rules.*StepFunctionModel"):
        search(start(make_model(1)), tf.constant(LIMITS), SPECIAL, rules=[Coverage(1)], **options)


def test_a_wrong_penalty_is_an_error_that_names_it():
    with pytest.raises(InputError, match=r"coverage_penalty.*-1"):
        Coverage(-1)
