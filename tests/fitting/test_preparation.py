"""Training text: what is left out, what the tokenizer is made of, and what is warned of."""

import base64
import logging
import random

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.fitting.training_text import InMemoryText, MixedText, StreamedText
from ktransformer.text import PairFiles, ParallelFiles, ParallelText, survey_files
from ktransformer.text.corpus import open_files
from ktransformer.text.line_limits import LengthBound
from tests.fitting.small_training import small
from tests.small_run import number_pairs, write_pairs

PAIRS = number_pairs(300, seed=4)
NOISE = base64.b64encode(random.Random(1).randbytes(150_000)).decode()
NOISY = [*PAIRS[:100], (NOISE, "1"), *PAIRS[100:], ("one", NOISE[:3000]), ("a" * 300, "2")]


def held(pairs, **settings):
    sources, targets = map(list, zip(*pairs, strict=True))
    return InMemoryText(ParallelText(sources, targets, empty=0), small(**settings)).encode()


def streamed(pairs, folder, **settings):
    files = ParallelFiles(*write_pairs(folder, f"text-{len(pairs)}", pairs))
    return StreamedText(files, small(**settings), folder / "c", reuse=False).encode()


SETTINGS = {"vocabulary_size": 60, "max_length": 16}


def test_pairs_surely_too_long_leave_the_tokenizer_as_it_is_without_them(caplog):
    with caplog.at_level("INFO"):
        (tokenizer, _), batches = held(NOISY, **SETTINGS)
    (expected, _), clean = held(PAIRS, **SETTINGS)
    assert tokenizer.model == expected.model
    assert (batches.too_long, clean.too_long) == (0, 0)
    assert "3 pairs are over 16 tokens with any tokenizer" in caplog.text
    assert "300 pairs; left out: 0 with an empty side, 3 over 16 tokens." in caplog.text


def test_pairs_surely_too_long_leave_the_tokenizer_of_a_streamed_text_as_it_is(tmp_path):
    (tokenizer, _), batches = streamed(NOISY, tmp_path, shard_pairs=1000, **SETTINGS)
    (expected, _), clean = streamed(PAIRS, tmp_path, shard_pairs=1000, **SETTINGS)
    assert tokenizer.model == expected.model
    assert batches.too_long - clean.too_long == 3


def test_subwords_are_sampled_of_a_text_with_a_long_line():
    _, batches = held(NOISY, subword_alpha=0.3, **SETTINGS)
    (inputs, _), *_ = batches.epoch(0)
    assert inputs["source"].shape[1] <= 16


def test_a_sample_is_drawn_from_the_pairs_that_may_fit(tmp_path):
    files = ParallelFiles(*write_pairs(tmp_path, "text", NOISY))
    survey = survey_files(files, sample_pairs=1000, bound=LengthBound(16))
    assert (survey.pairs, survey.surely_longer) == (303, 3)
    assert survey.sample.sources == [source for source, _ in PAIRS]
    with pytest.raises(InputError, match="max_length=1"):
        survey_files(files, sample_pairs=1000, bound=LengthBound(1))


def test_a_text_that_is_nearly_all_left_out_is_warned_of_with_its_numbers(caplog):
    long = [(f"{source} " * 20, target) for source, target in PAIRS]
    held([*PAIRS[:3], *long], **SETTINGS)
    (warning,) = [r for r in caplog.records if r.message.startswith("Training text: ")]
    assert warning.levelname == "WARNING"
    assert "3 pairs; left out: 0 with an empty side, 300 over 16 tokens" in warning.message
    assert "99.0% of 303" in warning.message


def test_a_text_of_which_little_is_left_out_is_not_warned_of(caplog):
    held(PAIRS, vocabulary_size=60, max_length=16)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_vocabulary_far_under_the_one_asked_for_is_warned_of(caplog):
    (tokenizer, _), _ = held(PAIRS, vocabulary_size=8000, max_length=16)
    (warning,) = [r.message for r in caplog.records if "vocabulary_size=8000" in r.message]
    assert f" {tokenizer.vocabulary_size} pieces" in warning
    caplog.clear()
    held(PAIRS, **SETTINGS)
    assert "vocabulary_size" not in caplog.text


def test_a_lone_word_of_the_greatest_length_still_fits():
    pairs = [*PAIRS, ("x" * 20, "y" * 20)]
    (tokenizer, _), _ = held(pairs, **SETTINGS)
    assert np.isin(["x", "y"], list(tokenizer.characters)).all()


def test_a_text_is_cleaned_and_weighted_in_memory_as_it_is_streamed(tmp_path, caplog):
    pairs = [*PAIRS, ("same", "same"), *PAIRS[:5]]
    path = tmp_path / "text.tsv"
    lines = [f"{source}\t{target}\t{i % 4}\n" for i, (source, target) in enumerate(pairs)]
    path.write_text("".join(lines))
    config = small(**SETTINGS, clean="identical,duplicates")
    held_text = InMemoryText(open_files(PairFiles(path), max_pairs=1000), config)
    files = StreamedText(PairFiles(path), config, tmp_path / "c", reuse=False)
    found = []
    for text in (held_text, files):
        (tokenizer, _), batches = text.encode()
        rows = [
            (*(tokenizer.decode(ids).numpy()[0] for ids in (source[None], label[None])), weight)
            for inputs, labels, weights in batches.epoch(0)
            for source, label, weight in zip(inputs["source"], labels, weights, strict=True)
            if weight
        ]
        found.append(sorted(rows))
    assert found[0] == found[1]
    assert {weight for *_, weight in found[0]} == {1, 2, 3}
    assert files.dropped["weight 0"] == held_text.dropped["weight 0"] > 50
    assert files.dropped["identical"] == held_text.dropped["identical"] <= 1
    assert files.dropped["duplicates"] == held_text.dropped["duplicates"] >= 5


def test_a_tag_of_the_settings_is_no_span_to_copy():
    pairs = [*PAIRS, *[("<formal> one <b> two", "1 <b> 2")] * 10]
    settings = {"max_length": 16, "vocabulary_size": 90, "copy_share": 0.01}
    (tokenizer, _), batches = held(pairs, **settings, tags="<formal>")
    ids = np.concatenate([inputs["source"].ravel() for inputs, _ in batches.epoch(0)])
    counts = [np.sum(ids == tokenizer.symbols[symbol]) for symbol in ("<formal>", "<c0>")]
    assert counts[0] == 10 <= counts[1]


def test_spans_of_a_text_to_mix_in_get_symbols_before_long_pairs_are_left_out(tmp_path):
    url = f"www.numbers.org/{'1' * 40}"  # Alone longer than 16 tokens.
    pairs = [("one <b> two", "1 <b> 2"), (f"two {url}", f"2 {url}"), (f"{url} one", "1")]
    files = ParallelFiles(*write_pairs(tmp_path, "old", pairs))
    config = small(**SETTINGS, copy_share=0.5)
    for text in (files, open_files(files, max_pairs=3)):
        mixed = MixedText(text, config).text
        assert mixed.sources == ["one <c0> two", "two <c0>"]
        assert mixed.targets == ["1 <c0> 2", "2 <c0>"]
