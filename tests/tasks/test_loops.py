"""A model that repeats a token until its limit, and the setting that stops it."""

import dataclasses

import numpy as np
import pytest

from ktransformer.config import Config
from ktransformer.engines import load_engine
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.fitting.start import FRESH
from ktransformer.saving.run import load_run
from tests.small_translator import drawn_translator, strings, with_decoding

DEFAULT = 3
TEXTS = ["four zero two", "nine seven", "one one one one one six"]


@pytest.fixture(scope="module")
def translator():
    return with_decoding(drawn_translator(), beam_size=1)


@pytest.fixture(scope="module")
def stopping(translator):
    return with_decoding(translator, max_repeats=DEFAULT)


def most_repeats(text):
    """Returns how often a run of up to 8 words stands in a row, at most."""
    words = text.split()
    most = 1
    for size in range(1, 9):
        for start in range(len(words)):
            run, count = words[start : start + size], 1
            while words[start + count * size : start + (count + 1) * size] == run:
                count += 1
            most = max(most, count)
    return most


def test_the_setting_ends_a_loop(translator, stopping):
    looping, stopped = (
        strings(each.translate_texts(TEXTS[:2])["text"]) for each in (translator, stopping)
    )
    assert most_repeats(looping[0]) > DEFAULT
    assert [most_repeats(text) for text in stopped] == [DEFAULT, DEFAULT]


def test_a_text_that_repeats_may_be_repeated(translator, stopping):
    looping, stopped = (
        strings(each.translate_texts(TEXTS)["text"]) for each in (translator, stopping)
    )
    assert looping[0] != stopped[0]
    assert looping[2] == stopped[2]
    assert most_repeats(stopped[2]) > DEFAULT


@pytest.mark.long
def test_a_request_keeps_to_the_setting(stopping):
    found = strings(stopping.translate_controlled(TEXTS, min_length=20)["text"])
    assert [most_repeats(text) > DEFAULT for (text,) in found] == [False, False, True]


def test_a_training_writes_that_there_is_no_rule_unless_it_is_set(run_folder):
    assert load_run(run_folder).config.decoding.max_repeats == 0
    assert not Config.from_dict({"decoding": {}}).decoding.max_repeats
    kept = dataclasses.replace(Config().decoding, max_repeats=0)
    assert FRESH.configure(Config(decoding=kept)).decoding.max_repeats == 0


@pytest.mark.long
@pytest.mark.parametrize("beam_size", [1, 3])
def test_exports_end_loops_as_the_model_does(stopping, beam_size, tmp_path):
    model = with_decoding(stopping, beam_size=beam_size)
    expected = model.translate_texts(TEXTS)
    names = ["serving_default"]
    for path in (
        export_saved_model(model, tmp_path / "saved", signatures=names),
        export_lite(model, tmp_path / "model.tflite", signatures=names),
    ):
        found = load_engine(path).translate_n_best(TEXTS)
        assert [each.text for each in found] == strings(expected["text"])
        np.testing.assert_allclose([each.scores[0] for each in found], expected["score"], atol=1e-4)
