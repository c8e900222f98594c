"""The characters of a text that its tokens stand for."""

import pytest

from ktransformer.text.token_spans import find_spans, find_words

FULL_WIDTH = "\N{FULLWIDTH LATIN CAPITAL LETTER A}\N{FULLWIDTH LATIN CAPITAL LETTER B}"


@pytest.mark.parametrize(
    ("text", "tokens", "parts"),
    [
        ("two dogs", ["▁two", "▁dog", "s", "</s>"], ["two", "dog", "s", ""]),
        ("  two\u3000 dogs ", ["▁two", "▁dogs", "</s>"], ["two", "dogs", ""]),
        (f"x {FULL_WIDTH}", ["▁x", "▁A", "B"], ["x", FULL_WIDTH[0], FULL_WIDTH[1]]),
        ("½ a", ["▁1", "\N{FRACTION SLASH}", "2", "▁a"], ["½", "½", "½", "a"]),
        ("cafe\u0301 x", ["▁caf", "é", "▁x"], ["caf", "e\u0301", "x"]),
        ("a 😀😀 dog", ["▁a", "▁", "<unk>", "▁dog", "</s>"], ["a", "", "😀😀", "dog", ""]),
        ("a \x00dog", ["▁a", "▁dog"], ["a", "dog"]),
        ("", ["</s>"], [""]),
    ],
)
def test_a_token_stands_for_its_characters(text, tokens, parts):
    assert [text[start:end] for start, end in find_spans(text, tokens)] == parts


def test_words_are_what_spaces_separate():
    text = " two  dogs,\trun "
    assert [text[start:end] for start, end in find_words(text)] == text.split()
