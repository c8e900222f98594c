"""The statistical aligner, and batches with its alignments."""

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.text import TokenBatches
from ktransformer.text.aligned_batches import AlignedBatches, pairs_of
from ktransformer.text.aligner import Aligner
from ktransformer.text.lexicon import estimate_translations
from ktransformer.text.special_ids import DEFAULT_SPECIAL_IDS

PAD, END = DEFAULT_SPECIAL_IDS.pad, DEFAULT_SPECIAL_IDS.end
BOTH = (DEFAULT_SPECIAL_IDS, DEFAULT_SPECIAL_IDS)
SIZE = 20


def pairs_in_reverse(count: int = 200) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each id plus 8 is its translation, in the reverse order."""
    random = np.random.default_rng(0)
    rows = [random.permutation(np.arange(4, 12))[: random.integers(2, 6)] for _ in range(count)]
    return [(np.append(row, END), np.append(row[::-1] + 8, END)) for row in rows]


@pytest.fixture(scope="module")
def aligner():
    return Aligner.train(pairs_in_reverse(), (SIZE, SIZE), BOTH)


def test_each_token_is_aligned_to_what_it_translates(aligner):
    source = np.array([[4, 5, 6, 7, END, PAD], [8, 9, END, PAD, PAD, PAD]])
    target = np.array([[15, 14, 13, 12, END], [17, 16, END, PAD, PAD]])
    found = aligner.align(source, target)
    assert found.dtype == np.float32
    assert found.argmax(axis=2)[0, :4].tolist() == [3, 2, 1, 0]
    assert found.argmax(axis=2)[1, :2].tolist() == [1, 0]
    assert found.max(axis=2)[0, :4].min() > 0.8


def test_rows_are_distributions_over_the_real_source(aligner):
    source = np.array([[4, 5, 6, END, PAD]])
    target = np.array([[14, 13, 12, END, PAD]])
    found = aligner.align(source, target)[0]
    np.testing.assert_allclose(found.sum(axis=1), [1, 1, 1, 0, 0], atol=1e-6)
    assert not found[:, 4].any()


def test_a_token_from_two_source_tokens_has_half_of_its_row_on_each():
    random = np.random.default_rng(0)
    rows = [random.permutation(np.arange(4))[: random.integers(1, 5)] for _ in range(200)]
    pairs = [
        (np.append((4 + 2 * row[:, None] + [0, 1]).ravel(), END), np.append(12 + row, END))
        for row in rows
    ]
    aligner = Aligner.train(pairs, (SIZE, SIZE), BOTH)
    found = aligner.align(np.array([[4, 5, 10, 11, END]]), np.array([[12, 15, END]]))[0]
    half, none = [0.5, 0.5], [0, 0]
    np.testing.assert_allclose(found, [[*half, *none, 0], [*none, *half, 0], [0] * 5], atol=0.05)
    np.testing.assert_allclose(found.sum(axis=1), [1, 1, 0], atol=1e-6)


def test_a_token_without_a_source_goes_to_the_end_token(aligner):
    found = aligner.align(np.array([[4, 5, END]]), np.array([[12, 19, 13, END]]))[0]
    assert found[1].argmax() == 2


def test_the_same_pairs_give_the_same_aligner(aligner):
    again = Aligner.train(pairs_in_reverse(), (SIZE, SIZE), BOTH)
    source, target = (np.array([ids]) for ids in pairs_in_reverse()[0])
    np.testing.assert_array_equal(again.align(source, target), aligner.align(source, target))


def test_text_without_a_pair_is_refused():
    with pytest.raises(InputError, match="no pair"):
        Aligner.train([(np.array([END]), np.array([12, END]))], (SIZE, SIZE), BOTH)


def test_a_table_knows_the_pairs_that_occurred():
    table = estimate_translations([(np.array([4]), np.array([5, 6]))], SIZE, null=0)
    found = table.look_up(np.array([4, 4, 4]), np.array([5, 6, 7]))
    np.testing.assert_allclose(found, [0.5, 0.5, 0])


def test_batches_have_the_alignment_of_their_ids(aligner):
    sources, targets = zip(*pairs_in_reverse(40), strict=True)
    batches = TokenBatches(sources, targets, batch_tokens=32, max_length=8, seed=3)
    aligned = AlignedBatches(batches, aligner)
    assert aligned.steps_per_epoch == batches.steps_per_epoch
    plain = list(batches.epoch(1, 2))
    for (inputs, labels), (old, expected) in zip(aligned.epoch(1, 2), plain, strict=True):
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(inputs["source"], old["source"])
        np.testing.assert_array_equal(inputs["alignment"], aligner.align(old["source"], expected))
    inputs, labels = next(iter(aligned.dataset()))
    assert inputs["alignment"].shape == (*labels.shape, inputs["source"].shape[1])
    assert len(list(pairs_of(batches, 10))) == 10
