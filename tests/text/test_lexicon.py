import collections

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, SpecialIds
from ktransformer.text.lexicon import train_lexicon
from tests.small_run import WORDS, number_pairs

SPECIAL = {PAD_ID, UNKNOWN_ID, START_ID, END_ID}


def ids(*sequences: list[int]) -> list[np.ndarray]:
    """Sequences as a tokenizer gives them, with the end token."""
    return [np.array([*sequence, END_ID], np.int32) for sequence in sequences]


def drawn_pairs(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sources of ids from 4 to 12; each has a translation, 10 above, that may be left out."""
    generator = np.random.default_rng(0)
    sources = [generator.integers(4, 13, generator.integers(1, 6)) for _ in range(count)]
    targets = [[i + 10 for i in source if generator.random() < 0.7] for source in sources]
    return ids(*sources), ids(*targets)


def plain_probabilities(sources, targets, iterations):
    """IBM model 1 as in a textbook: loops over sentences, p[source][target]; 0 is no source."""
    p = collections.defaultdict(lambda: collections.defaultdict(lambda: 1.0))
    for _ in range(iterations):
        counts = collections.defaultdict(lambda: collections.defaultdict(float))
        for source, target in zip(sources, targets, strict=True):
            words = [PAD_ID, *source[:-1]]
            for t in target[:-1]:
                total = sum(p[s][t] for s in words)
                for s in words:
                    counts[s][t] += p[s][t] / total
        p = {s: {t: c / sum(row.values()) for t, c in row.items()} for s, row in counts.items()}
    return p


def test_two_passes_by_hand():
    sources, targets = ids([4, 5], [4]), ids([6, 7], [6])
    # Pass 1: of 5, 6 and 7 get a third each, and the lower id comes first. p(6|4) = 5/7.
    once = train_lexicon(sources, targets, 8, best=2, iterations=1).translations
    # Pass 2: 6 has 1/2 / (1/2 + 2 * 5/7) = 0.26 from 5, but 7 has 1/2 / (1/2 + 2 * 2/7) = 0.47.
    twice = train_lexicon(sources, targets, 8, best=2, iterations=2).translations
    assert once[4:].tolist() == [[6, 7], [6, 7], [0, 0], [0, 0]]
    assert twice[4:].tolist() == [[6, 7], [7, 6], [0, 0], [0, 0]]
    assert (once.dtype, once[:4].any()) == (np.int32, False)


def test_the_best_translations_are_those_of_a_plain_implementation():
    sources, targets = drawn_pairs(200)
    table = train_lexicon(sources, targets, 30, best=4, iterations=4).translations
    for source, row in plain_probabilities(sources, targets, 4).items():
        if source != PAD_ID:
            found = [row[target] for target in table[source]]
            np.testing.assert_allclose(found, sorted(row.values(), reverse=True)[:4], rtol=1e-9)


def test_number_words_find_their_digits():
    pairs = number_pairs(300, seed=1)
    sources = ids(*([4 + WORDS.index(word) for word in source.split()] for source, _ in pairs))
    targets = ids(*([14 + int(digit) for digit in target] for _, target in pairs))
    table = train_lexicon(sources, targets, 24, best=1).translations
    np.testing.assert_array_equal(table[4:14, 0], np.arange(14, 24))


def test_a_source_with_ids_of_its_own_is_translated_into_those_of_the_target():
    one = ids([4, 5, 6], [6, 4], [5])
    # The same sources in a vocabulary of 40 pieces, whose end and start are not the target's.
    other = [np.where(each == END_ID, 6, each + 30) for each in one]
    special = SpecialIds(start=START_ID + 2, end=6, pad=PAD_ID, unknown=UNKNOWN_ID + 4)
    targets = ids([7, 8, 9], [9, 7], [8])
    expected = train_lexicon(one, targets, 11, best=2)
    sizes = {"source_vocabulary_size": 40, "source_special_ids": special}
    found = train_lexicon(other, targets, 11, best=2, **sizes)
    assert (found.translations.shape, found.vocabulary_size) == ((40, 2), 11)
    np.testing.assert_array_equal(found.translations[34:37], expected.translations[4:7])
    assert not np.delete(found.translations, [34, 35, 36], axis=0).any()
    assert found.frequent.tolist() == expected.frequent.tolist()


def test_special_ids_are_neither_translated_nor_translations():
    sources, targets = ids([UNKNOWN_ID, 4], [4]), ids([6, UNKNOWN_ID], [6])
    lexicon = train_lexicon(sources, targets, 8, best=3, frequent=9)
    assert lexicon.translations[4].tolist() == [6, PAD_ID, PAD_ID]
    assert not lexicon.translations[sorted(SPECIAL)].any()
    assert lexicon.frequent.tolist() == [6]


def test_the_most_frequent_target_pieces_come_in_their_order():
    sources, targets = ids([4], [4], [5]), ids([9, 7], [7, 8, 7], [9])
    assert train_lexicon(sources, targets, 10, frequent=2).frequent.tolist() == [7, 9]
    assert train_lexicon(sources, targets, 10, frequent=0).frequent.tolist() == []


def test_a_pair_with_an_empty_side_changes_nothing():
    sources, targets = drawn_pairs(20)
    alone = train_lexicon(sources, targets, 30, best=4)
    more = train_lexicon([*sources, *ids([4], [])], [*targets, *ids([], [14])], 30, best=4)
    np.testing.assert_array_equal(more.translations, alone.translations)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"best": 0}, "best=0"),
        ({"frequent": -1}, "frequent=-1"),
        ({"iterations": 0}, "iterations=0"),
    ],
)
def test_a_number_below_its_least_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        train_lexicon(ids([4]), ids([5]), 6, **options)


def test_sides_that_differ_or_have_no_token_are_refused():
    with pytest.raises(InputError, match="got 2 sources and 1 targets"):
        train_lexicon(ids([4], [4]), ids([5]), 6)
    with pytest.raises(InputError, match="no pair with a token on both sides"):
        train_lexicon(ids([4], []), ids([], [5]), 6)
