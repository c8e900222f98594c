"""A model that repeats a token until its limit, and the setting that stops it."""

import pytest

from tests.small_translator import drawn_translator, strings, with_decoding


@pytest.fixture(scope="module")
def translator():
    return with_decoding(drawn_translator(), beam_size=1)


def test_a_loop_ends_where_a_run_stands_too_often_in_a_row(translator):
    (looping,) = strings(translator.translate_texts(["four zero two"])["text"])
    (stopped,) = strings(
        with_decoding(translator, max_repeats=2).translate_texts(["four zero two"])["text"]
    )
    assert "three three three three" in looping
    words = stopped.split()
    assert "three three" in stopped
    for size in range(1, 9):
        runs = [words[i : i + size] for i in range(len(words) - size + 1)]
        assert not any(
            runs[i] == runs[i + size] == runs[i + 2 * size] for i in range(len(runs) - 2 * size)
        )
