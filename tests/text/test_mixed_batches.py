import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.text import MixedBatches, PackedBatches, TokenBatches


def make(first_id, pairs):
    """Batches of four pairs each, whose ids tell the pairs."""
    ids = [np.array([first_id + i, 3]) for i in range(pairs)]
    return TokenBatches(ids, ids, batch_tokens=16, max_length=4, bucket_step=4)


def pairs_of(batches):
    """Returns the first id of every pair, a list a batch."""
    return [[int(row[0]) for row in labels if row[0]] for _, labels in batches]


OWN, OTHERS = make(10, 24), make(100, 40)  # 6 and 10 batches an epoch.


def test_an_epoch_has_all_of_the_first_text_and_a_share_of_the_second():
    mixed = MixedBatches([OWN, OTHERS], weights=[0.6, 0.4])
    assert (mixed.steps_per_epoch, mixed.batches_per_epoch) == (10, (6, 4))
    for epoch in range(3):
        found = pairs_of(mixed.epoch(epoch))
        own = [pairs for pairs in found if pairs[0] < 100]
        assert own == pairs_of(OWN.epoch(epoch))  # In its own order.
        assert len(found) == 10


def test_the_second_text_goes_on_in_the_next_epoch_until_all_had_its_turn():
    mixed = MixedBatches([OWN, OTHERS], weights=[0.6, 0.4])
    found = [pairs for epoch in range(5) for pairs in pairs_of(mixed.epoch(epoch))]
    others = [pairs for pairs in found if pairs[0] >= 100]
    assert others == [*pairs_of(OTHERS.epoch(0)), *pairs_of(OTHERS.epoch(1))]


def test_a_batch_depends_on_epoch_and_step_alone():
    mixed, again = (MixedBatches([OWN, OTHERS], weights=[3, 2], seed=3) for _ in range(2))
    whole = [pairs for epoch in range(3) for pairs in pairs_of(mixed.epoch(epoch))]
    for update in (0, 7, 10, 23):
        epoch, step = divmod(update, 10)
        assert pairs_of(again.epoch(epoch, step)) == whole[update : 10 * epoch + 10]
    kinds = [[pairs[0] >= 100 for pairs in pairs_of(mixed.epoch(epoch))] for epoch in range(2)]
    assert kinds[0] != kinds[1]  # In other places.


def test_a_small_share_is_at_least_one_batch():
    assert MixedBatches([OWN, OTHERS], weights=[99, 1]).batches_per_epoch == (6, 1)


def test_without_weights_an_epoch_has_every_batch_of_every_text():
    third = make(200, 8)
    mixed = MixedBatches([OWN, OTHERS, third])
    assert mixed.batches_per_epoch == (6, 10, 2)
    for epoch in range(2):
        every = [pairs for text in (OWN, OTHERS, third) for pairs in pairs_of(text.epoch(epoch))]
        assert sorted(pairs_of(mixed.epoch(epoch))) == sorted(every)
    assert mixed.tokens == 2 * (24 + 40 + 8)


def test_the_order_is_that_of_earlier_versions():
    kinds = [int(pairs[0] >= 100) for pairs in pairs_of(MixedBatches([OWN, OTHERS]).epoch(1))]
    before = np.random.default_rng([0, 1, 2]).permutation(np.arange(16) < 10)
    assert kinds == before.astype(int).tolist()


@pytest.mark.parametrize("weights", [[0, 1], [1, -1], [1, float("nan")], [1], [1, float("inf")]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(InputError, match="weights"):
        MixedBatches([OWN, OTHERS], weights=weights)


def test_rows_of_a_text_without_weights_have_the_weight_1():
    ids = [np.array([i, 3]) for i in range(10, 34)]
    options = {"batch_tokens": 16, "max_length": 4, "bucket_step": 4}
    own = TokenBatches(ids, ids, weights=[0.5] * len(ids), **options)
    mixed = MixedBatches([own, OTHERS], weights=[6, 4])
    assert mixed.weighted
    for _, labels, weights in mixed.epoch(0):
        np.testing.assert_array_equal(weights, np.where(labels[:, 0] < 100, 0.5, 1))


def test_a_dataset_has_the_inputs_of_its_texts():
    texts = [
        PackedBatches([np.array([first_id, 5, 3])] * 4, batch_tokens=8, max_length=8)
        for first_id in (10, 20)
    ]
    mixed = MixedBatches(texts)
    found = mixed.dataset().take(mixed.steps_per_epoch).as_numpy_iterator()
    for (ids, labels), expected in zip(found, mixed.epoch(0), strict=True):
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_array_equal(labels, expected[1])
