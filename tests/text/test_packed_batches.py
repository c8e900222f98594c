import itertools

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.text import END_ID, PAD_ID, START_ID, PackedBatches
from ktransformer.text.packed_batches import pack

OPTIONS = {"batch_tokens": 60, "max_length": 12}


def make_texts(count=80, longest=15, seed=0):
    """Texts of 1 to `longest` ids, all different."""
    random = np.random.default_rng(seed)
    return [
        np.array([*random.integers(4, 10_000, random.integers(0, longest)), END_ID], "int32")
        for _ in range(count)
    ]


def texts_of(batch):
    """Takes the rows of a batch apart again, and checks that ids are the labels shifted."""
    ids, labels = batch
    found = []
    for row, row_labels in zip(ids, labels, strict=True):
        starts = np.flatnonzero(row == START_ID)
        for start, stop in itertools.pairwise([*starts, (row != PAD_ID).sum()]):
            text = row_labels[start:stop]
            np.testing.assert_array_equal(row[start + 1 : stop], text[:-1])
            found.append(text.tolist())
    return found


def test_every_short_text_is_in_each_epoch_once():
    texts = make_texts()
    batches = PackedBatches(texts, **OPTIONS)
    expected = sorted(text.tolist() for text in texts if len(text) <= 12)
    for epoch in (0, 1):
        assert sorted(t for batch in batches.epoch(epoch) for t in texts_of(batch)) == expected
    assert batches.too_long == len(texts) - len(expected) > 0
    assert batches.tokens == sum(map(len, expected))


def test_two_texts_share_a_row_as_written_by_hand():
    batches = PackedBatches(
        [np.array([7, END_ID]), np.array([8, 9, END_ID])], batch_tokens=6, max_length=6
    )
    ((ids, labels),) = batches.epoch(0)
    assert ids.tolist() == [[START_ID, 8, 9, START_ID, 7, PAD_ID]]
    assert labels.tolist() == [[8, 9, END_ID, 7, END_ID, PAD_ID]]


def test_rows_are_nearly_full():
    lengths = np.random.default_rng(0).integers(1, 30, 3000)
    places = pack(lengths, 64)
    assert places.rows <= 1.01 * lengths.sum() / 64 + 1


def test_texts_of_a_row_do_not_overlap():
    lengths = np.random.default_rng(1).integers(1, 20, 200)
    places = pack(lengths, 20)
    for row in range(places.rows):
        _, members = places.members(np.array([row]))
        spans = sorted((places.offsets[i], places.offsets[i] + lengths[i]) for i in members)
        assert spans[-1][1] <= 20
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))


def test_an_epoch_goes_on_from_any_step():
    batches = PackedBatches(make_texts(), **OPTIONS)
    whole, rest = list(batches.epoch(3)), list(batches.epoch(3, first_step=2))
    assert len(whole) == batches.steps_per_epoch
    np.testing.assert_array_equal(np.array(whole[2:]), np.array(rest))


def test_another_epoch_or_seed_has_another_order_and_the_same_one_does_not():
    batches = PackedBatches(make_texts(), **OPTIONS, seed=1)
    first = np.array(list(batches.epoch(0)))
    np.testing.assert_array_equal(first, np.array(list(batches.epoch(0))))
    assert (first != np.array(list(batches.epoch(1)))).any()
    other = PackedBatches(make_texts(), **OPTIONS, seed=2)
    assert (first != np.array(list(other.epoch(0)))).any()


def test_rows_of_padding_make_a_multiple():
    batches = PackedBatches(make_texts(), **OPTIONS, row_multiple=4)
    assert {ids.shape for ids, _ in batches.epoch(0)} == {(8, 12)}


def test_the_dataset_gives_what_the_stream_does():
    batches = PackedBatches(make_texts(), **OPTIONS)
    pairs = zip(batches.dataset(first_update=1), batches.stream(first_update=1), strict=False)
    for (ids, labels), (expected_ids, expected_labels) in itertools.islice(pairs, 4):
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize(
    ("texts", "change", "message"),
    [
        ([], {}, "no text"),
        ([np.arange(20)], {}, "max_length=12"),
        ([np.arange(3)], {"batch_tokens": 5}, "batch_tokens=5, max_length=12"),
    ],
)
def test_texts_that_give_no_batch_are_refused(texts, change, message):
    with pytest.raises(InputError, match=message):
        PackedBatches(texts, **{**OPTIONS, **change})
