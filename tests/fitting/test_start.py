"""The starting point of a training: fresh weights, a run, or the state of one that was cut."""

import dataclasses

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.fitting import Fresh, FromRun, Resume, train
from ktransformer.fitting.training_text import StreamedText
from ktransformer.models import Transformer
from ktransformer.text import ParallelFiles, ParallelText
from tests.fitting.small_training import (
    EVERY_UPDATE,
    TEXT,
    CutAfter,
    CutError,
    assert_same,
    small,
    state_of,
)
from tests.small_run import write_pairs

OTHER_TEXT = ParallelText(["two one three"] * 9, ["2 1 3"] * 9, empty=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch."""
    return train(small(seed=5), TEXT, checkpoints=tmp_path_factory.mktemp("start"))


def test_a_training_from_a_run_begins_with_its_weights_and_its_tokenizer(run, tmp_path):
    config = small(learning_rate=1e-30, vocabulary_size=None)  # Changes no weight.
    tuned = train(config, OTHER_TEXT, checkpoints=tmp_path, start=FromRun(run))
    for weight, expected in zip(tuned.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-20)
    assert tuned.tokenizer.model == run.tokenizer.model
    assert tuned.config.data.vocabulary_size == 30


def test_a_training_from_a_run_goes_on_learning_and_leaves_the_run_as_it_was(run, tmp_path):
    before = run.model.get_weights()
    tuned = train(small(epochs=2), TEXT, checkpoints=tmp_path, start=FromRun(run))
    assert_same(run.model.get_weights(), before)
    assert len(tuned.history["loss"]) == 2  # Its own.
    assert tuned.history["loss"][-1] < run.history["loss"][-1]


def test_dropout_and_precision_may_differ_from_those_of_the_run(run):
    config = small(dropout=0.5, dtype="mixed_bfloat16")
    model = FromRun(run).make_model(config, FromRun(run).tokenizers)
    assert model.dropout == model.encoder.blocks[0].dropout == 0.5
    assert model.compute_dtype == "bfloat16"
    assert_same(model.get_weights(), run.model.get_weights())


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"d_model": 32}, "d_model.*16.*d_model=32"),
        ({"norm_first": True}, "norm_first.*False.*norm_first=True"),
        ({"output_bias": True}, "output_bias.*False.*output_bias=True"),
        ({"vocabulary_size": 31}, "vocabulary_size.*30.*vocabulary_size=31"),
        ({"split_digits": False}, "split_digits.*True.*split_digits=False"),
    ],
)
def test_settings_that_are_not_those_of_the_run_are_refused(settings, rule, run, tmp_path):
    with pytest.raises(InputError, match=rule):
        train(small(**settings), TEXT, checkpoints=tmp_path, start=FromRun(run))


class SubTransformer(Transformer):
    """A model that the settings do not describe."""


def test_a_training_from_a_subclass_trains_the_subclass(run):
    model = SubTransformer.from_config(run.model.get_config())
    model.build()
    start = FromRun(dataclasses.replace(run, model=model))
    assert type(start.make_model(small(), start.tokenizers)) is SubTransformer


def test_streamed_text_is_encoded_with_the_tokenizer_of_the_run(run, tmp_path):
    pairs = [("three four", "3 4"), ("four", "4")] * 8
    files = ParallelFiles(*write_pairs(tmp_path, "text", pairs))
    for given in (None, FromRun(run).tokenizers):  # The shards of another tokenizer are not reused.
        text = StreamedText(files, small(shard_pairs=5), tmp_path / "c", reuse=True)
        (tokenizer, _), _ = text.encode(given)
        assert (tokenizer.model == run.tokenizer.model) == (given is not None)


@pytest.mark.long
def test_a_training_from_a_run_that_was_cut_ends_as_if_it_had_not_been(run, tmp_path):
    config, start = small(**{**EVERY_UPDATE, "epochs": 2}), FromRun(run)
    # In an empty folder it begins at the run.
    whole = train(config, TEXT, checkpoints=tmp_path / "whole", start=Resume(start))
    with pytest.raises(CutError):
        train(config, TEXT, checkpoints=tmp_path / "cut", start=start, callbacks=[CutAfter(4)])
    for other in (Fresh(), FromRun(whole)):
        with pytest.raises(InputError, match=r"training\.npz .* other weights"):
            train(config, TEXT, checkpoints=tmp_path / "cut", start=Resume(other))
    rest = train(config, TEXT, checkpoints=tmp_path / "cut", start=Resume(start))
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
    assert_same(rest.model.get_weights(), whole.model.get_weights())
