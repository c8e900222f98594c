import base64
import random

import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text import Tokenizer
from ktransformer.text.line_limits import (
    CHARACTERS_PER_TOKEN,
    cut_line,
    is_empty,
    is_surely_longer,
    normalize_line,
)


def test_what_the_normalisation_leaves_nothing_of_is_empty():
    characters = [chr(i) for i in (*range(0xD800), *range(0xE000, 0x1_0000))]
    vanish = [c for c in characters if not normalize_line(c)]
    assert {"\x01", "\u200b", "\u200c", "\ufeff", "\u3000", "\u2581"} <= set(vanish)
    assert [c for c in vanish if not is_empty(c)] == []
    assert is_empty("".join(vanish))


@pytest.mark.parametrize("line", ["", "\u200d", "\u2060", "\ufe0f", "\u3164 \u00ad", "\t\u202e"])
def test_invisible_characters_are_no_text(line):
    assert is_empty(line)


@pytest.mark.parametrize("line", [".", "—", "中", "\u200bж", "\u0301", "\u064b", "😀", "\ue000"])
def test_a_visible_character_is_text(line):
    assert not is_empty(line)


@pytest.mark.parametrize(
    ("line", "fewest"),
    [
        ("two dogs", 2),
        ("a" * 16, 1),
        ("a" * 17, 2),
        ("1234", 4),
        ("ab12cd", 4),
        ("don't", 2),  # The sign's own token isn't counted: it may be one with its neighbours'.
        ("語" * 33, 3),
        (" " * 1000, 0),
        ("e\u0301" * 16, 1),  # Sixteen characters once they are composed.
        ("…" * 3, 1),
    ],
)
def test_the_bound_is_exact_to_a_token(line, fewest):
    assert not is_surely_longer(line, fewest + 1)  # With its end token it may just fit.
    assert is_surely_longer(line, fewest)


def test_no_line_has_fewer_tokens_than_the_bound():
    generator = random.Random(0)
    alphabet = "aaabbbcé 0123.,-“”(कि中文\u0301"
    lines = ["".join(generator.choices(alphabet, k=12)) for _ in range(200)]
    tokenizer = Tokenizer.train(lines * 3, 4000)
    for line, ids in zip(lines, tokenizer.encode_lines(lines), strict=True):
        assert not is_surely_longer(line, len(ids))


def test_base64_of_a_few_thousand_characters_is_surely_longer():
    assert is_surely_longer(base64.b64encode(random.Random(0).randbytes(1500)).decode(), 128)
    assert not is_surely_longer("An ordinary sentence of an ordinary text, with commas.", 128)


def test_a_text_far_over_the_length_is_cut_and_spaces_in_a_row_are_one():
    limit = CHARACTERS_PER_TOKEN * 4
    assert cut_line("a" * limit, 4) == "a" * limit
    assert cut_line("a" * (limit + 1), 4) == "a" * limit
    assert cut_line("a" + " " * limit + "b", 4) == "a b"


def test_of_a_line_far_over_the_length_only_the_start_is_encoded():
    tokenizer = Tokenizer.train(["two dogs run", "a dog ate"] * 9, 60)
    (ids,) = tokenizer.encode_lines(["q" + "dog " * 10_000], max_length=10)
    assert 10 < len(ids) <= CHARACTERS_PER_TOKEN * 10
    (whole,) = tokenizer.encode_lines(["dog " * 10_000])
    assert len(whole) == len(tokenizer.encode(tf.constant(["dog " * 10_000])).to_list()[0])


@pytest.mark.parametrize("lines", ["hello", b"hello", [b"hello"], [1, 2], ["a", None]])
def test_lines_that_are_no_strings_are_refused_with_what_was_got(lines):
    tokenizer = Tokenizer.train(["two dogs run", "a dog ate"] * 9, 60)
    for function in (
        lambda: Tokenizer.train(lines, 60),
        lambda: tokenizer.encode_lines(lines),
        lambda: tokenizer.normalize_lines(lines),
    ):
        with pytest.raises(InputError, match=r"^lines "):
            function()


def test_a_path_in_the_place_of_lines_is_named(tmp_path):
    with pytest.raises(InputError, match=r"text.en.*read_lines"):
        Tokenizer.train([tmp_path / "text.en"], 60)
