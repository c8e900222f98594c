"""A training with a vocabulary of each side, from its settings to its exports."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from ktransformer.engines import LiteEngine, ModelEngine, SavedModelEngine
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.fitting import FromRun, Resume, train
from ktransformer.fitting.pruning import prune_model, prune_run
from ktransformer.fitting.training_text import InMemoryText, StreamedText
from ktransformer.fitting.vocabulary import choose_vocabulary
from ktransformer.saving.run import load_run, save_run
from ktransformer.tasks import Translator, load_translator
from ktransformer.tasks.shortlist import learn_shortlist
from ktransformer.text import ParallelFiles, ParallelText
from ktransformer.text.lexicon import train_lexicon
from ktransformer.verification import verify
from tests.fitting.small_training import TEXT, CutAfter, CutError, assert_same, small, state_of
from tests.run_command import refusal
from tests.small_run import WORDS, train_arguments, write_pairs
from tests.text.batch_checks import assert_same_batches

PAIRS = [(f"{WORDS[a]} {WORDS[b]}", f"{a}{b}") for a, b in itertools.product(range(10), repeat=2)]
NUMBERS = ParallelText(*map(list, zip(*PAIRS, strict=True)), empty=0)
TWO = {"shared_vocabulary": False, "vocabulary_size": 20, "source_vocabulary_size": 28}
SIZES = {"d_model": 32, "num_heads": 4, "hidden_dim": 64, "batch_tokens": 512, "bucket_step": 16}
FITTED = {"epochs": 60, "learning_rate": 0.01, "warmup_steps": 5, "average_checkpoints": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of number words to digits that has learnt them."""
    config = small(**TWO, **SIZES, **FITTED, dropout=0.0, beam_size=2)
    return train(config, NUMBERS, checkpoints=tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "run"
    save_run(run, path)
    return path


def test_a_run_keeps_a_tokenizer_and_a_table_of_each_side(run, folder):
    sizes = run.tokenizer.vocabulary_size, run.target_tokenizer.vocabulary_size
    assert sizes == (28, 15)
    assert run.model.source_embedding.embeddings.shape == (28, 32)
    assert run.model.target_embedding.embeddings.shape == (15, 32)
    assert run.tokenizer.characters == "efghinorstuvwxz"
    assert run.target_tokenizer.characters == "0123456789"
    loaded = load_run(folder)
    assert loaded.config == run.config
    assert loaded.tokenizer.model == run.tokenizer.model
    assert loaded.target_tokenizer.model == run.target_tokenizer.model
    assert_same(loaded.model.get_weights(), run.model.get_weights())


def test_a_lite_file_of_the_run_translates_from_one_vocabulary_into_the_other(folder, tmp_path):
    path = export_lite(load_translator(folder), tmp_path / "x.tflite", signatures=["ids"])
    engine = LiteEngine(path)
    assert sum(map(str.__eq__, engine.translate(NUMBERS.sources), NUMBERS.targets)) >= 95
    for ids in (28, -1):
        with pytest.raises(InputError, match=rf"source .*27.*{ids}"):
            engine._model.run("ids", source=np.array([[ids, 3]], np.int32))


@pytest.mark.long
def test_the_exports_of_the_run_are_right_and_pass_verify(folder, tmp_path):
    translator = load_translator(folder)
    expected = ModelEngine(translator).translate(NUMBERS.sources)
    assert sum(map(str.__eq__, expected, NUMBERS.targets)) >= 95
    saved = export_saved_model(translator, tmp_path / "saved")
    lite = export_lite(translator, tmp_path / "x.tflite")
    for engine in (SavedModelEngine(saved), LiteEngine(lite)):
        assert engine.translate(NUMBERS.sources) == expected
        described = engine.description
        assert (described.source_vocabulary_size, described.vocabulary_size) == (28, 15)
    source, target = write_pairs(tmp_path, "text", PAIRS)
    report = verify([saved, lite], folder, source, target)
    assert not report.broken
    assert {result.identical for result in report.results} == {1.0}


def test_a_translator_of_the_run_needs_both_tokenizers(run):
    with pytest.raises(InputError, match=r"target_tokenizer.*source_vocabulary_size=28"):
        Translator(run.model, run.tokenizer)
    with pytest.raises(InputError, match=r"tokenizer has 15 pieces.* 28"):
        Translator(run.model, run.target_tokenizer, target_tokenizer=run.tokenizer)
    with pytest.raises(InputError, match=r"target tokenizer has 28 pieces.* 15"):
        Translator(run.model, run.tokenizer, target_tokenizer=run.tokenizer)


def test_a_shortlist_searches_in_the_vocabulary_of_the_target(run, tmp_path, monkeypatch):
    learn = functools.partial(train_lexicon, frequent=2)  # 100 are more than all digits.
    monkeypatch.setattr("ktransformer.tasks.shortlist.train_lexicon", learn)
    files = ParallelFiles(*write_pairs(tmp_path, "text", PAIRS))
    sides = {"tokenizer": run.tokenizer, "target_tokenizer": run.target_tokenizer}
    shortlist = learn_shortlist(files, size=14, max_pairs=100, **sides)
    assert shortlist.lexicon.translations.shape[0] == 28
    whole = Translator(run.model, decoding=run.config.decoding, **sides)
    narrow = whole.with_settings(shortlist=shortlist)
    source = whole.to_ids(NUMBERS.sources[:9])
    chosen = shortlist.choose(source).numpy()
    assert len(chosen) == 14
    assert chosen.max() < 15
    np.testing.assert_array_equal(narrow.search(source).ids, whole.search(source).ids)
    swapped = {"tokenizer": run.target_tokenizer, "target_tokenizer": run.tokenizer}
    other = learn_shortlist(files, size=14, max_pairs=100, **swapped)
    with pytest.raises(InputError, match=r"28 source and 15 target ids; got 15 and 28"):
        whole.with_settings(shortlist=other)


def test_a_run_without_one_of_its_tokenizers_is_refused(folder, run, tmp_path):
    save_run(run, tmp_path / "run")
    (tmp_path / "run" / "target_tokenizer.model").unlink()
    for load in (load_run, load_translator):
        with pytest.raises(InputError, match=r"target_tokenizer\.model is missing"):
            load(tmp_path / "run")


def test_a_run_whose_tokenizers_are_swapped_is_not_written(run, tmp_path):
    swapped = {"tokenizer": run.target_tokenizer, "target_tokenizer": run.tokenizer}
    with pytest.raises(InputError, match=r"source_vocabulary_size=28.*source_vocabulary_size=15"):
        save_run(dataclasses.replace(run, **swapped), tmp_path / "run")


def test_a_run_with_two_vocabularies_is_not_pruned(run):
    with pytest.raises(InputError, match=r"one vocabulary.*two"):
        prune_run(run, ["one two"])
    with pytest.raises(InputError, match="source_vocabulary_size=28"):
        prune_model(run.model, np.arange(10))


def test_the_sizes_of_two_vocabularies_are_chosen_from_their_sides():
    text = ParallelText(["ab" * 50_000], ["xyz" * 100_000], empty=0)
    for settings, expected in (
        ({}, (1265, 2191)),  # 4 times the roots of 100,000 and 300,000.
        ({"vocabulary_size": 500}, (500, 500)),
        ({"source_vocabulary_size": 500}, (500, 2191)),
    ):
        nulls = {"shared_vocabulary": False, "vocabulary_size": None}
        data = choose_vocabulary(small(**{**nulls, **settings}), text, 1).data
        assert (data.source_vocabulary_size, data.vocabulary_size) == expected


def test_subword_sampling_draws_from_the_vocabulary_of_each_side():
    text = InMemoryText(NUMBERS, small(**TWO, subword_alpha=0.1))
    (source, target), batches = text.encode()
    for inputs, labels in batches.epoch(0):
        for tokenizer, ids in ((source, inputs["source"]), (target, labels)):
            assert ids.max() < tokenizer.vocabulary_size
            texts = tokenizer.decode(ids).numpy().astype(str).tolist()
            assert {*texts} <= {*NUMBERS.sources, *NUMBERS.targets}


def test_streamed_text_is_encoded_with_the_tokenizer_of_each_side(tmp_path):
    files = ParallelFiles(*write_pairs(tmp_path, "text", PAIRS))

    def encode(shard_pairs=30, tokenizers=None, **changes):
        config = small(**{**TWO, **changes}, shard_pairs=shard_pairs)
        return StreamedText(files, config, tmp_path / "c", reuse=True).encode(tokenizers)

    (source, target), batches = encode(shard_pairs=100)  # Tokenizers of all pairs.
    held, expected = InMemoryText(NUMBERS, small(**TWO)).encode()
    assert (source.model, target.model) == tuple(each.model for each in held)
    assert batches.tokens == expected.tokens
    rows = (text for inputs, _ in batches.epoch(0) for text in source.decode(inputs["source"]))
    assert sorted(text.numpy().decode() for text in rows if text) == sorted(NUMBERS.sources)
    written = (tmp_path / "c" / "shards" / "index.json").stat().st_mtime_ns
    (_, again), same = encode(shard_pairs=100)
    assert again.model == target.model
    assert_same_batches(same.epoch(1), batches.epoch(1))
    assert (tmp_path / "c" / "shards" / "index.json").stat().st_mtime_ns == written
    encode(shard_pairs=100, source_vocabulary_size=26)
    assert (tmp_path / "c" / "shards" / "index.json").stat().st_mtime_ns != written


def test_a_training_from_the_run_has_its_vocabularies(run, tmp_path):
    start = FromRun(run)
    config = run.config.replace({"vocabulary_size": None, "source_vocabulary_size": None})
    data = start.configure(config).data
    assert (data.vocabulary_size, data.source_vocabulary_size) == (20, 28)
    assert [each.model for each in start.tokenizers] == [
        run.tokenizer.model,
        run.target_tokenizer.model,
    ]
    for changes, rule in (
        ({"source_vocabulary_size": 27}, r"source_vocabulary_size.*28.*27"),
        (
            {"shared_vocabulary": True, "source_vocabulary_size": None},
            r"shared_vocabulary.*False.*True",
        ),
    ):
        with pytest.raises(InputError, match=rule):
            train(run.config.replace(changes), TEXT, checkpoints=tmp_path, start=start)


@pytest.mark.long
def test_a_training_with_two_vocabularies_that_was_cut_ends_as_if_it_had_not_been(tmp_path):
    config = small(**TWO, dropout=0.2, epochs=2, checkpoint_minutes=0)
    whole = train(config, TEXT, checkpoints=tmp_path / "whole")
    with pytest.raises(CutError):
        train(config, TEXT, checkpoints=tmp_path / "cut", callbacks=[CutAfter(4)])
    for changes, rule in (
        ({"source_vocabulary_size": 27}, r"source_vocabulary_size=28.*27"),
        ({"shared_vocabulary": True, "source_vocabulary_size": None}, "shared_vocabulary=False"),
    ):
        other = config.replace(changes)
        with pytest.raises(InputError, match=rule):
            train(other, TEXT, checkpoints=tmp_path / "cut", start=Resume())
    rest = train(config, TEXT, checkpoints=tmp_path / "cut", start=Resume())
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
    assert rest.target_tokenizer.model == whole.target_tokenizer.model


def test_the_command_refuses_a_source_vocabulary_of_a_shared_one(capsys, tmp_path):
    pairs = write_pairs(tmp_path, "text", PAIRS)
    more = ("--set", "source_vocabulary_size=20")
    sentence = refusal(capsys, *train_arguments(*pairs, tmp_path / "run", *more))
    assert "shared_vocabulary=false" in sentence
