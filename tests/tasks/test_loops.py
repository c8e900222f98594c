"""A model that repeats a token until its limit, and the setting that stops it."""

import numpy as np
import pytest

from ktransformer.config import Config
from ktransformer.engines import load_engine
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.fitting.repeats import choose_max_repeats
from ktransformer.fitting.start import FromRun
from ktransformer.saving.run import load_run
from ktransformer.text import TokenBatches
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


def test_the_default_of_a_training_ends_a_loop(translator, stopping):
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


def test_a_training_chooses_the_setting(run_folder):
    run = load_run(run_folder)
    assert run.config.decoding.max_repeats == 4  # As some of its numbers repeat a digit.
    assert FromRun(run).default_config().decoding.max_repeats is None
    assert not Config.from_dict({"decoding": {}}).decoding.max_repeats


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([[5, 6, 5, 6, 7]], 3),
        ([[5, 6], [9, 8, *[7] * 6]], 6),  # As 1,000,000 repeats its zeros.
        ([[9, *[5, 6, 7] * 4, 5, 6]], 4),
        ([[*[7] * 6], *[[5, 6]] * 9_999], 3),  # One in 10,000.
        ([[*[7] * 6], [*[7] * 5], *[[5, 6]] * 9_998], 5),
        ([[*[7] * 17]], 0),
    ],
)
def test_the_choice_fits_the_targets(targets, expected):
    ids = [np.array([*target, 1]) for target in targets]
    batches = TokenBatches(ids, ids, batch_tokens=512, max_length=32)
    assert choose_max_repeats(batches, pad=0) == expected


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
