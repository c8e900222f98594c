"""Required phrases, on tables of logits."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import (
    RequiredPhrases,
    StepFunctionModel,
    Temperature,
    beam_search,
    greedy_search,
    sample,
)
from ktransformer.errors import InputError
from tests.decoding.toy_model import END, PAD, SPECIAL, ToyModel

WIDE = 9  # Ids 3 to 8 are words.


def require(*sentences, bonus=4.0, continues=()):
    """A rule for sentences with a list of phrases each."""
    ragged = tf.ragged.constant([phrases or [[PAD]] for phrases in sentences], dtype=tf.int32)
    ids = ragged.to_tensor(PAD)
    lengths = tf.reduce_sum(tf.cast(ids != PAD, tf.int32), axis=2)
    return RequiredPhrases(ids, lengths, tf.constant([i in continues for i in range(WIDE)]), bonus)


def search(rule, *, before=(), seed=1, limit=12, beam_size=1, change=lambda table: None):
    """The ids that each of the rule's sentences gets; the rules `before` act before it."""
    rows = rule.ids.shape[0]
    model = ToyModel(seed, sentences=rows, positions=limit, vocabulary_size=WIDE, scale=1.0)
    model.table[..., END] += np.linspace(-2, 3, limit)[:, None, None]
    change(model.table)
    limits = tf.fill([rows], limit)
    steps = StepFunctionModel(model.step, model.state(range(rows), beam_size))
    rules = [*before, rule]
    if beam_size == 1:
        found = greedy_search(steps, limits, SPECIAL, rules=rules)
    else:
        found = beam_search(steps, limits, SPECIAL, beam_size=beam_size, rules=rules)
    assert (found.lengths.numpy() > 0).all()
    return [row[:length].tolist() for row, length in zip(*_best(found), strict=True)]


def _best(found):
    return found.ids[:, 0].numpy(), found.lengths[:, 0].numpy()


def contains(ids, phrase):
    return any(ids[i : i + len(phrase)] == phrase for i in range(len(ids)))


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("bonus", [0.0, 4.0])
def test_every_phrase_of_a_sentence_is_written(beam_size, bonus):
    phrases = [[[3, 4, 5]], [], [[8], [7, 7, 6]], [[5, 5, 5, 3], [5, 4]]]
    for seed in range(3):
        found = search(require(*phrases, bonus=bonus), seed=seed, beam_size=beam_size)
        for ids, wanted in zip(found, phrases, strict=True):
            assert ids[-1] == END
            assert all(contains(ids, phrase) for phrase in wanted)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("temperature", [1e-6, 0.05, 20.0])
def test_a_phrase_is_written_at_any_temperature(beam_size, temperature):
    phrases = [[[3, 4, 5]], [[8], [7, 7, 6]]]
    for seed in range(3):
        rule = require(*phrases)
        found = search(rule, before=[Temperature(temperature)], seed=seed, beam_size=beam_size)
        for ids, wanted in zip(found, phrases, strict=True):
            assert all(contains(ids, phrase) for phrase in wanted)


def test_of_the_phrases_that_must_be_begun_the_most_probable_comes_first():
    def change(table):
        table[:] = -90.0
        table[..., END], table[..., 4], table[..., 5] = 0.0, -80.0, -40.0

    assert search(require([[4], [5]]), change=change) == [[5, 4, END]]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_sentence_without_phrases_is_searched_as_ever(beam_size):
    for seed in range(2):
        alone = search(require([], []), seed=seed, beam_size=beam_size)
        found = search(require([], [[3, 4, 5]]), seed=seed, beam_size=beam_size)
        assert found[0] == alone[0]


def test_sampling_writes_the_phrases_too():
    rule = require(*[[[3, 8, 5]]] * 50)
    model = ToyModel(1, positions=12, vocabulary_size=WIDE)
    steps = StepFunctionModel(model.step, model.state([0] * 50))
    found = sample(steps, tf.fill([50], 12), SPECIAL, rules=[rule], seed=3)
    assert all(contains(row.tolist(), [3, 8, 5]) for row in _best(found)[0])


def test_a_phrase_is_begun_where_it_is_probable_enough():
    def change(table):
        table[:] = -20.0
        table[:, :, :, :, 3] = 0.0  # The token that is written again and again.
        table[:, 2, :, :, 4] = -3.0  # The phrase is likely at one place.
        table[:, 6:, :, :, END] = 5.0

    assert search(require([[4]], bonus=4.0), change=change) == [[3, 3, 4, 3, 3, 3, END]]
    late = search(require([[4]], bonus=2.0), change=change)
    assert late == [[3, 3, 3, 3, 3, 3, 4, END]]  # In place of the end.


def test_the_limit_goes_first_but_leaves_room():
    def change(table):
        table[..., END] = -20.0

    assert search(require([[4, 5]], bonus=0.0), limit=5, change=change)[0][2:] == [4, 5, END]
    (cut,) = search(require([[4, 5, 6]]), limit=3, change=change)
    assert len(cut) == 3
    assert cut[-1] == END


def test_a_word_that_goes_on_is_not_the_phrase():
    def change(table):
        table[:] = -20.0
        table[..., 3] = 0.0
        table[:, 1, :, :, 4] = 1.0
        table[:, 2, :, :, 8] = 9.0  # It goes on with the word of token 4.
        table[:, 5:, :, :, END] = 5.0

    found = search(require([[4]], continues=[8]), change=change)
    assert found == [[3, 4, 8, 3, 3, 4, END]]
    assert search(require([[4]]), change=change) == [[3, 4, 8, 3, 3, END]]


def test_a_negative_bonus_is_refused():
    with pytest.raises(InputError, match=r"bonus.*-1"):
        require([[3]], bonus=-1)
