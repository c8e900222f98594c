import random

import numpy as np
import pytest

from ktransformer.engines.splitting import merge_outputs, split_texts


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 8, 32])
@pytest.mark.parametrize("count", [1, 7, 8, 40, 100])
def test_every_text_is_in_one_part_and_its_outputs_come_back_in_order(count, most, replicas):
    generator = random.Random(count)
    lengths = np.array([generator.randrange(1, 60) for _ in range(count)])
    parts = split_texts(lengths, most, replicas=replicas)
    assert sorted(np.concatenate(parts)) == list(range(count))
    shortest = [lengths[part].min() for part in parts[:-1]]
    longest = [lengths[part].max() for part in parts[1:]]
    assert all(a >= b for a, b in zip(shortest, longest, strict=True))  # The longest texts first.
    merged = merge_outputs(parts, [{"n": lengths[part], "k": part[:, None]} for part in parts])
    assert merged["n"].tolist() == lengths.tolist()
    assert merged["k"].tolist() == [[i] for i in range(count)]


def test_parts_of_longer_texts_have_fewer():
    long, short = split_texts([40] * 20 + [10] * 20, 32, replicas=2)
    assert len(long) < len(short)
    assert len(long) + len(short) == 40


def test_interpreters_share_a_batch_evenly():
    assert [len(part) for part in split_texts([9] * 16, 32, replicas=2)] == [8, 8]
    assert (
        len(split_texts([9] * 72, 32, replicas=2)) == 4
    )  # Not three, of which one would run alone.


def test_few_texts_are_not_shared():
    assert len(split_texts([9] * 7, 32, least=4, replicas=2)) == 1
    assert len(split_texts([9] * 8, 32, least=4, replicas=2)) == 2
    assert len(split_texts([9] * 8, 32, least=4, replicas=3)) == 2
