import itertools

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.text import END_ID, PAD_ID, MaskedBatches, SpecialIds

MASK_ID = 300
SPECIAL_IDS = SpecialIds(mask=MASK_ID)
OPTIONS = {"special_ids": SPECIAL_IDS, "batch_tokens": 64, "max_length": 20, "bucket_step": 4}


def make_lines(count=150, longest=24, seed=0):
    """Lines of 1 to `longest` ids, the first of which says which line it is."""
    random = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        middle = random.integers(4, 100, size=random.integers(0, longest - 1))
        lines.append(np.array([100 + number, *middle, END_ID], "int32"))
    return lines


@pytest.fixture(scope="module")
def lines():
    return make_lines()


@pytest.fixture(scope="module")
def batches(lines):
    return MaskedBatches(lines, **OPTIONS, seed=5)


@pytest.fixture(scope="module")
def many():
    """One epoch of many long lines, for shares: what was hidden, and what stands there."""
    random = np.random.default_rng(3)
    lines = [np.array([*random.integers(4, 200, size=40), END_ID]) for _ in range(2000)]
    batches = MaskedBatches(lines, special_ids=SPECIAL_IDS, batch_tokens=4200, max_length=42)
    pairs = [hidden_and_shown(batch) for batch in batches.epoch(0)]
    return tuple(map(np.concatenate, zip(*pairs, strict=True)))


def hidden_and_shown(batch):
    """Returns the chosen tokens of a batch, and the ids in their places."""
    inputs, labels = batch
    shown = np.take_along_axis(inputs["ids"], inputs["positions"], axis=1)
    return labels[labels != PAD_ID], shown[labels != PAD_ID]


def restored(batch):
    """Puts the hidden tokens back: the lines as they were, without padding."""
    inputs, labels = batch
    ids = inputs["ids"].copy()
    rows, columns = np.nonzero(labels != PAD_ID)
    ids[rows, inputs["positions"][rows, columns]] = labels[rows, columns]
    return [row[row != PAD_ID].tolist() for row in ids if row.any()]


def assert_same(first, second):
    for (inputs, labels), (other_inputs, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(inputs["ids"], other_inputs["ids"])
        np.testing.assert_array_equal(inputs["positions"], other_inputs["positions"])
        np.testing.assert_array_equal(labels, other_labels)


def masks(epoch):
    """Returns which positions are chosen of each line, by the line's own id."""
    found = {}
    for batch in epoch:
        inputs, labels = batch
        firsts = [row[0] for row in restored(batch)]
        for first, positions, row in zip(firsts, inputs["positions"], labels, strict=False):
            found[first] = sorted(positions[row != PAD_ID].tolist())
    return found


def test_the_labels_are_what_stood_at_the_positions(lines, batches):
    found = sorted(line for batch in batches.epoch(0) for line in restored(batch))
    assert found == sorted(line.tolist() for line in lines if len(line) <= 20)


def test_nothing_else_is_changed(lines, batches):
    originals = {line[0]: line for line in lines}
    for batch in batches.epoch(0):
        inputs, labels = batch
        for line, ids, positions, row in zip(
            restored(batch), inputs["ids"], inputs["positions"], labels, strict=False
        ):
            changed = np.flatnonzero(ids[: len(line)] != originals[line[0]])
            assert set(changed) <= set(positions[row != PAD_ID])


def test_fifteen_in_a_hundred_tokens_are_chosen_and_at_least_one_a_line(lines, batches):
    expected = {0: 0, 1: 1, 2: 1, 3: 1, 9: 1, 10: 2, 16: 2, 17: 3, 19: 3}
    seen = {}
    for batch in batches.epoch(0):
        for line, row in zip(restored(batch), batch[1], strict=False):
            seen.setdefault(len(line) - 1, set()).add(int((row != PAD_ID).sum()))
    assert all(len(counts) == 1 for counts in seen.values())
    for length, counts in seen.items():
        assert counts == {expected.get(length, max(1, round(0.15 * length)))}


def test_of_the_chosen_tokens_80_are_masks_10_others_and_10_unchanged(many):
    hidden, shown = many
    assert len(hidden) == 2000 * 6  # 15% of 40.
    error = 4 * np.sqrt(0.8 * 0.2 / len(hidden))
    assert abs((shown == MASK_ID).mean() - 0.8) < error
    # A random piece is by chance the hidden one in 1 of 296 cases.
    assert abs((shown == hidden).mean() - 0.1 - 0.1 / 296) < error
    others = shown[(shown != MASK_ID) & (shown != hidden)]
    assert abs(len(others) / len(hidden) - 0.1) < error


def test_the_random_pieces_are_all_the_ordinary_ones(many):
    hidden, shown = many
    others = shown[(shown != MASK_ID) & (shown != hidden)]
    assert others.min() > END_ID
    assert others.max() < MASK_ID
    assert len(set(others.tolist())) > 250  # Of 296, in some 1,200 draws.


def test_every_place_of_a_line_is_chosen_as_often():
    lines = [np.array([*range(10, 20), END_ID])] * 3000
    batches = MaskedBatches(lines, special_ids=SPECIAL_IDS, batch_tokens=3300, max_length=11)
    labels = np.concatenate([labels.ravel() for _, labels in batches.epoch(0)])
    counts = np.bincount(labels[labels != PAD_ID], minlength=20)[10:]
    assert counts.sum() == 6000
    assert np.abs(counts - 600).max() < 4 * np.sqrt(600)


def test_padding_the_end_and_masks_of_the_text_are_never_chosen():
    lines = [np.array([MASK_ID, 7, MASK_ID, END_ID]), np.array([END_ID]), np.array([5, END_ID])]
    batches = MaskedBatches(lines, special_ids=SPECIAL_IDS, batch_tokens=16, max_length=4)
    for epoch in range(20):
        ((inputs, labels),) = batches.epoch(epoch)
        assert sorted(labels[labels != PAD_ID]) == [5, 7]
        assert (inputs["ids"] == END_ID).sum() == 3
        assert (inputs["ids"] == PAD_ID).sum() == 16 - 7


def test_the_number_of_positions_follows_from_the_length(batches):
    shapes = set()
    for inputs, labels in itertools.chain(batches.epoch(0), batches.epoch(1)):
        assert inputs["positions"].shape == labels.shape
        assert {array.dtype for array in (*inputs.values(), labels)} == {np.dtype("int32")}
        shapes.add((inputs["ids"].shape, labels.shape))
    assert shapes == {
        ((16, 4), (16, 1)),
        ((8, 8), (8, 1)),
        ((5, 12), (5, 2)),
        ((4, 16), (4, 2)),
        ((3, 20), (3, 3)),
    }


def test_the_same_seed_and_epoch_give_the_same_masks(lines):
    first, second = (MaskedBatches(lines, **OPTIONS, seed=5) for _ in range(2))
    list(first.epoch(0))  # What was read before does not matter.
    assert_same(first.epoch(3), second.epoch(3))


def test_another_epoch_and_another_seed_have_other_masks(lines, batches):
    first = masks(batches.epoch(0))
    other_seed = MaskedBatches(lines, **OPTIONS, seed=6)
    for other in (masks(batches.epoch(1)), masks(other_seed.epoch(0))):
        assert other.keys() == first.keys()
        same = sum(other[line] == first[line] for line in first)
        assert same < len(first) / 2


def test_fixed_masks_and_the_order_of_the_text_are_the_same_every_epoch(lines):
    fixed = MaskedBatches(lines, **OPTIONS, fixed=True)
    assert_same(fixed.epoch(0), fixed.epoch(7))
    firsts = [line[0] for batch in fixed.epoch(0) for line in restored(batch)]
    assert sorted(firsts[-10:]) == firsts[-10:]  # All of the longest bucket.


def test_the_dataset_is_not_tuned(batches):
    assert batches.dataset().options().autotune.enabled is False


def test_the_dataset_yields_epoch_after_epoch(batches):
    expected = [*batches.epoch(0), *batches.epoch(1)]
    assert batches.steps_per_epoch == len(list(batches.epoch(0)))
    assert_same(batches.dataset().take(len(expected)).as_numpy_iterator(), expected)


def test_another_share_can_be_chosen(lines):
    batches = MaskedBatches(lines, **OPTIONS, masked_share=1.0)
    for batch in batches.epoch(0):
        for line, row in zip(restored(batch), batch[1], strict=False):
            assert (row != PAD_ID).sum() == len(line) - 1


def test_lines_that_are_too_long_are_counted(lines, batches):
    assert batches.too_long == sum(len(line) > 20 for line in lines) > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"special_ids": SpecialIds()}, "special_ids .*mask=None"),
        ({"special_ids": SpecialIds(), "ordinary_ids": [4, 5]}, "special_ids .*mask=None"),
        ({"masked_share": 0}, "masked_share=0"),
        ({"batch_tokens": 19}, "batch_tokens=19, max_length="),
        ({"max_length": 1}, "No line has at most max_length=1 tokens"),
    ],
    ids=str,
)
def test_an_impossible_setting_is_refused(lines, wrong, message):
    with pytest.raises(ValueError, match=message):
        MaskedBatches(lines, **{**OPTIONS, **wrong})


def test_no_line_at_all_is_an_input_error():
    with pytest.raises(InputError, match="There is no line to make batches of"):
        MaskedBatches([], **OPTIONS)


def test_lines_that_are_no_ids_are_refused_with_what_was_got():
    with pytest.raises(InputError, match=r"arrays of integers .*; got 'hi'"):
        MaskedBatches(["hi"], special_ids=SPECIAL_IDS, batch_tokens=64, max_length=20)


def test_batches_from_an_update_on_are_those_that_come_after_it(batches):
    first = batches.steps_per_epoch + 1  # In the second epoch.
    (expected,) = itertools.islice(batches.dataset().as_numpy_iterator(), first, first + 1)
    for found in (next(batches.dataset(first).as_numpy_iterator()), next(batches.stream(first))):
        for name, ids in expected[0].items():
            np.testing.assert_array_equal(found[0][name], ids)
        np.testing.assert_array_equal(found[1], expected[1])


def test_of_bert_s_ids_any_ordinary_piece_is_drawn_and_the_start_is_never_chosen():
    special = SpecialIds(start=101, end=102, pad=0, unknown=100, mask=103)
    ordinary = np.setdiff1d(np.arange(200, dtype="int32"), [0, 100, 101, 102, 103])
    lines = [np.array([101, *range(150, 180), 102], "int32")] * 64
    batches = MaskedBatches(
        lines,
        special_ids=special,
        ordinary_ids=ordinary,
        batch_tokens=2048,
        max_length=32,
        masked_share=1.0,
    )
    ((inputs, labels),) = batches.epoch(0)
    assert 101 not in labels
    assert (labels > 0).sum() == 64 * 30
    written = np.take_along_axis(inputs["ids"], inputs["positions"], axis=1)
    drawn = written[(written != labels) & (written != 103) & (labels > 0)]
    assert {*drawn} <= {*ordinary.tolist()}
    assert drawn.max() > 103
