import collections

import numpy as np
import pytest
import sentencepiece

from ktransformer.errors import InputError
from ktransformer.text import END_ID, SubwordSampler, TokenBatches, Tokenizer
from ktransformer.text.buckets import JoinedIds
from tests.text.batch_checks import assert_same_batches, pairs_of
from tests.text.training_text import TRAINING_TEXT

LINES = [*TRAINING_TEXT, "", "two dogs", "an ж unknown"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TRAINING_TEXT, 120)


def rows(ids: JoinedIds) -> list[np.ndarray]:
    return np.split(ids.flat, ids.starts[1:-1])


def sample(tokenizer, lines, seed=0, **options):
    return rows(SubwordSampler(tokenizer, lines, **options).sample(np.random.default_rng(seed)))


def test_every_draw_spells_its_line_and_ends(tokenizer):
    drawn = sample(tokenizer, LINES, alpha=0.1)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    best = [tokenizer.normalize(line) for line in LINES]
    assert [processor.decode(ids[:-1].tolist()).replace(" ⁇ ", "ж") for ids in drawn] == best
    assert all(ids[-1] == END_ID for ids in drawn)


def test_draws_differ_by_the_generator_alone(tokenizer):
    first, again, other = (sample(tokenizer, LINES, seed, alpha=0.1) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert sum(not np.array_equal(a, b) for a, b in zip(first, other, strict=True)) > len(LINES) / 2


def test_a_high_alpha_gives_the_most_probable_segmentation(tokenizer):
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    drawn = sample(tokenizer, LINES, alpha=1000.0)
    for line, ids in zip(LINES, drawn, strict=True):
        score = sum(map(processor.get_score, processor.encode(line)))
        assert sum(map(processor.get_score, ids[:-1].tolist())) == pytest.approx(score)


def test_segmentations_are_as_frequent_as_their_probability_to_the_power_of_alpha(tokenizer):
    word, alpha, count = "street", 0.5, 20_000
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    every = [tuple(ids) for ids in processor.nbest_encode_as_ids(word, 64)]
    weights = np.array([np.exp(alpha * sum(map(processor.get_score, ids))) for ids in every])
    drawn = sample(tokenizer, [word] * count, alpha=alpha)
    counts = collections.Counter(tuple(ids[:-1].tolist()) for ids in drawn)
    assert len(every) > 5
    shares = np.array([counts[ids] for ids in every]) / count
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.015)


@pytest.fixture(scope="module")
def drawn_batches(tokenizer):
    ids = tokenizer.encode_lines(LINES)
    sampler = SubwordSampler(tokenizer, LINES, alpha=0.1)
    options = {"batch_tokens": 128, "max_length": max(map(len, ids)), "seed": 3}
    return TokenBatches(ids, ids, **options, samplers=(sampler, sampler))


def test_each_epoch_has_every_pair_in_segmentations_of_its_own(tokenizer, drawn_batches):
    texts = sorted(tokenizer.normalize(line).replace("ж", "") for line in LINES)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    epochs = [pairs_of(drawn_batches.epoch(epoch)) for epoch in (0, 1)]
    for pairs in epochs:
        sources, targets = (
            [processor.decode(ids[:-1]).replace(" ⁇ ", "") for ids in side]
            for side in zip(*pairs, strict=True)
        )
        assert sources == targets
        assert sorted(sources) == texts
    assert sorted(epochs[0]) != sorted(epochs[1])
    assert any(source != target for source, target in epochs[0])
    longest = max(inputs["source"].shape[1] for inputs, _ in drawn_batches.epoch(0))
    assert longest <= max(map(len, tokenizer.encode_lines(LINES)))


def test_an_epoch_has_as_many_batches_and_the_same_ones_again(drawn_batches):
    first, second = list(drawn_batches.epoch(0)), list(drawn_batches.epoch(1))
    assert len(first) == len(second) == drawn_batches.steps_per_epoch
    assert_same_batches(second, drawn_batches.epoch(1))
    assert_same_batches(second[2:], drawn_batches.epoch(1, first_step=2))


@pytest.mark.parametrize(("alpha", "best"), [(0, 64), (-1.0, 64), (0.3, 0)])
def test_numbers_that_make_no_sense_are_refused(alpha, best, tokenizer):
    with pytest.raises(InputError, match=f"alpha={alpha}, best={best}"):
        SubwordSampler(tokenizer, LINES, alpha=alpha, best=best)


def test_a_tokenizer_of_another_kind_is_refused(tokenizer):
    masked = Tokenizer.train(TRAINING_TEXT, 130, mask=True)
    with pytest.raises(InputError, match="cannot be drawn: it has a mask"):
        SubwordSampler(masked, LINES, alpha=0.3)


def test_one_string_in_the_place_of_lines_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"^lines .*3"):
        SubwordSampler(tokenizer, "dog", alpha=0.3)
