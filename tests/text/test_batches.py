import itertools

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.text import END_ID, PAD_ID, START_ID
from ktransformer.text.batches import TokenBatches
from tests.text.batch_checks import assert_same_batches, pairs_of, without_padding

OPTIONS = {"batch_tokens": 64, "max_length": 20, "bucket_step": 4}


def make_pairs(count=150, longest=24, seed=0):
    """Pairs of 1 to `longest` ids; all sources differ."""
    random = np.random.default_rng(seed)

    def ids(first):
        length = random.integers(1, longest + 1)
        middle = random.integers(4, 50, size=max(length - 2, 0))
        return np.array([*([first] if length > 1 else []), *middle, END_ID], "int32")

    sources = [ids(100 + i) for i in range(count)]
    return sources, [ids(100 + i) for i in range(count)]


@pytest.fixture(scope="module")
def pairs():
    return make_pairs()


@pytest.fixture(scope="module")
def batches(pairs):
    return TokenBatches(*pairs, **OPTIONS, seed=5)


def kept(sources, targets, max_length=20):
    return sorted(
        (source.tolist(), target.tolist())
        for source, target in zip(sources, targets, strict=True)
        if max(len(source), len(target)) <= max_length
    )


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_kept_pair_appears_once_an_epoch(pairs, shuffle):
    batches = TokenBatches(*pairs, **OPTIONS, shuffle=shuffle)
    for epoch in range(2):
        assert sorted(pairs_of(batches.epoch(epoch))) == kept(*pairs)


def test_a_batch_written_by_hand():
    sources = [np.array([5, 6, END_ID]), np.array([7, END_ID])]
    targets = [np.array([8, END_ID]), np.array([9, 10, 11, END_ID])]
    batches = TokenBatches(
        sources, targets, batch_tokens=12, max_length=8, bucket_step=4, shuffle=False
    )
    ((inputs, labels),) = batches.epoch(0)
    assert inputs["source"].tolist() == [[5, 6, END_ID, 0], [7, END_ID, 0, 0], [0, 0, 0, 0]]
    assert labels.tolist() == [[8, END_ID, 0, 0], [9, 10, 11, END_ID], [0, 0, 0, 0]]
    assert inputs["target"].tolist() == [[START_ID, 8, 0, 0], [START_ID, 9, 10, 11], [0, 0, 0, 0]]


def test_the_target_is_the_labels_shifted_behind_the_start_token(batches):
    for inputs, labels in batches.epoch(0):
        for target, label in zip(inputs["target"], labels, strict=True):
            ids = without_padding(label)
            assert without_padding(target) == ([START_ID, *ids[:-1]] if ids else [])
            assert target[: len(ids)].all()  # Padding only behind.


def test_ids_are_int32(batches):
    inputs, labels = next(batches.epoch(0))
    assert {inputs["source"].dtype, inputs["target"].dtype, labels.dtype} == {np.dtype("int32")}


def test_every_length_has_one_shape_on_both_sides(batches):
    shapes = set()
    for inputs, labels in itertools.chain(batches.epoch(0), batches.epoch(1)):
        assert inputs["source"].shape == inputs["target"].shape == labels.shape
        shapes.add(labels.shape)
    assert shapes == {(16, 4), (8, 8), (5, 12), (4, 16), (3, 20)}


def test_the_longest_bucket_is_no_longer_than_max_length(pairs):
    batches = TokenBatches(*pairs, batch_tokens=64, max_length=18, bucket_step=4)
    assert {labels.shape for _, labels in batches.epoch(0)} >= {(4, 16), (3, 18)}
    assert sorted(pairs_of(batches.epoch(0))) == kept(*pairs, max_length=18)


@pytest.mark.parametrize(("batch_tokens", "bucket_step"), [(20, 1), (50, 4), (64, 7), (100, 50)])
def test_no_batch_has_more_tokens_than_allowed(pairs, batch_tokens, bucket_step):
    batches = TokenBatches(
        *pairs, batch_tokens=batch_tokens, max_length=20, bucket_step=bucket_step
    )
    sizes = [labels.size for _, labels in batches.epoch(0)]
    assert max(sizes) <= batch_tokens
    assert sorted(pairs_of(batches.epoch(0))) == kept(*pairs)


def test_a_pair_lies_in_the_first_bucket_that_holds_its_longer_side(batches):
    for inputs, labels in batches.epoch(0):
        length = labels.shape[1]
        for source, label in zip(inputs["source"], labels, strict=True):
            longer = max(len(without_padding(source)), len(without_padding(label)))
            assert longer == 0 or length - 4 < longer <= length


def test_no_batch_is_padding_alone(batches):
    assert all(labels.any() for _, labels in batches.epoch(0))


def test_the_same_seed_and_epoch_give_the_same_batches(pairs):
    first, second = (TokenBatches(*pairs, **OPTIONS, seed=5) for _ in range(2))
    list(first.epoch(0))  # What was read before does not matter.
    assert_same_batches(first.epoch(3), second.epoch(3))


def test_another_epoch_has_another_order(batches):
    first, second = pairs_of(batches.epoch(0)), pairs_of(batches.epoch(1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_another_seed_has_another_order(pairs, batches):
    other = TokenBatches(*pairs, **OPTIONS, seed=6)
    assert pairs_of(other.epoch(0)) != pairs_of(batches.epoch(0))


def test_a_shuffled_epoch_mixes_lengths_and_the_rows_of_a_length(batches):
    lengths = [labels.shape[1] for _, labels in batches.epoch(0)]
    assert lengths != sorted(lengths)
    rows = [labels[0, 0] for _, labels in batches.epoch(0) if labels.shape[1] == 20]
    assert rows != sorted(rows)


def test_without_shuffling_every_epoch_keeps_the_order_of_the_corpus(pairs):
    batches = TokenBatches(*pairs, **OPTIONS, shuffle=False, seed=5)
    assert_same_batches(batches.epoch(0), batches.epoch(7))
    sources, targets = pairs
    longer = [max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)]
    expected = [
        (sources[i].tolist(), targets[i].tolist())
        for length in (4, 8, 12, 16, 20)
        for i in range(len(sources))
        if length - 4 < longer[i] <= length
    ]
    assert pairs_of(batches.epoch(0)) == expected


def test_pairs_that_are_too_long_are_counted(pairs, batches):
    assert batches.too_long == len(pairs[0]) - len(kept(*pairs))
    assert batches.too_long > 0


def test_one_long_side_is_enough_to_leave_a_pair_out():
    short, long = np.array([5, END_ID]), np.array([5, 6, 7, 8, END_ID])
    batches = TokenBatches([short, long, short], [long, short, short], batch_tokens=8, max_length=4)
    assert batches.too_long == 2
    assert pairs_of(batches.epoch(0)) == [([5, END_ID], [5, END_ID])]


def test_the_steps_are_those_of_an_epoch(batches):
    epoch = list(batches.epoch(0))
    assert batches.steps_per_epoch == len(epoch)


def test_the_dataset_is_not_tuned(batches):
    assert batches.dataset().options().autotune.enabled is False


def test_the_dataset_yields_epoch_after_epoch(batches):
    expected = [*batches.epoch(0), *batches.epoch(1)]
    found = batches.dataset().take(len(expected)).as_numpy_iterator()
    assert_same_batches(found, expected)


def test_batch_tokens_below_max_length_is_an_input_error(pairs):
    with pytest.raises(InputError, match="batch_tokens=19, max_length=20"):
        TokenBatches(*pairs, batch_tokens=19, max_length=20)


def test_no_pair_that_is_short_enough_is_an_input_error():
    ids = np.array([5, 6, 7, END_ID])
    with pytest.raises(InputError, match="No pair has at most max_length=3 tokens"):
        TokenBatches([ids], [ids], batch_tokens=8, max_length=3)


def test_no_pair_at_all_is_an_input_error():
    with pytest.raises(InputError, match="There is no pair to make batches of"):
        TokenBatches([], [], batch_tokens=8, max_length=3)


def test_copies_follow_each_other_in_a_batch(pairs):
    once, twice = (TokenBatches(*pairs, **OPTIONS, seed=5, copies=copies) for copies in (1, 2))
    assert once.steps_per_epoch == twice.steps_per_epoch
    for (inputs, labels), (more, more_labels) in zip(once.epoch(0), twice.epoch(0), strict=True):
        np.testing.assert_array_equal(more_labels, np.concatenate([labels, labels]))
        for name, ids in inputs.items():
            np.testing.assert_array_equal(more[name], np.concatenate([ids, ids]))


@pytest.mark.parametrize("ids", [["hi"], [[0.5, 1.5]], [3], [[[1, 2]]], [None]])
def test_sequences_that_are_no_ids_are_refused_with_what_was_got(ids):
    good = [np.array([5, END_ID])]
    for sides in ((ids, good), (good, ids)):
        with pytest.raises(InputError, match=r"integers with one axis.*; got .* number 0"):
            TokenBatches(*sides, **OPTIONS)


def test_lists_of_integers_are_ids_too():
    (batch,) = TokenBatches([[5, END_ID]], [[6, END_ID]], **OPTIONS).epoch(0)
    assert batch[1][0, :2].tolist() == [6, END_ID]


def test_a_weight_goes_with_its_pair_and_rows_of_padding_have_none(pairs):
    sources, targets = pairs
    weights = np.arange(1, len(sources) + 1) / 4
    of_pair = {}
    for source, target, weight in zip(sources, targets, weights, strict=True):
        of_pair.setdefault((tuple(source), tuple(target)), []).append(weight)
    options = {"batch_tokens": 64, "max_length": 12, "row_multiple": 4, "copies": 2}
    batches = TokenBatches(sources, targets, weights=weights, **options)
    assert batches.weighted
    for inputs, labels, found in batches.epoch(1):
        assert found.dtype == "float32"
        assert len(found) == len(labels)
        for source, target, weight in zip(inputs["source"], labels, found, strict=True):
            key = tuple(source[source != PAD_ID]), tuple(target[target != PAD_ID])
            assert weight == 0 if not target.any() else weight in of_pair[key]
    inputs, labels, found = next(iter(batches.dataset().take(1)))
    assert found.shape == labels.shape[:1]


def test_weights_of_another_number_are_an_input_error(pairs):
    with pytest.raises(InputError, match=r"weights.*2"):
        TokenBatches(*pairs, weights=[1, 1], batch_tokens=64, max_length=12)
