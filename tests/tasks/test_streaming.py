"""Translations token by token."""

from itertools import pairwise

import pytest

from tests.small_translator import TEXTS, drawn_translator, strings, with_decoding


@pytest.fixture(scope="module")
def greedy():
    """A greedy translator that loops, but for a rule."""
    return with_decoding(drawn_translator(), beam_size=1, max_repeats=2)


def test_the_last_value_is_the_greedy_translation(greedy):
    expected = strings(greedy.translate_texts(TEXTS)["text"])
    assert [[*greedy.stream_tokens(text)][-1] for text in TEXTS] == expected


def test_each_value_goes_on_from_the_last(greedy):
    values = [*greedy.stream_tokens("nine seven")]
    assert values[0] == ""
    assert len(values) > 5
    assert all(after.startswith(before) for before, after in pairwise(values))


def test_a_prefix_begins_every_value(greedy):
    values = [*greedy.stream_tokens("nine seven", prefix="two  é ")]
    assert len(values) > 3
    assert all(value.startswith("two  é ") for value in values)
