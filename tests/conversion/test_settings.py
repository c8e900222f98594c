"""Every value of a published configuration is read, required or refused, all at once."""

import pytest

from ktransformer.conversion import Problems, Settings
from ktransformer.errors import InputError


def _sentences(values: dict, read) -> list[str]:
    problems = Problems()
    settings = Settings(values, problems)
    read(settings)
    return problems.sentences


def test_values_come_back_as_they_are():
    problems = Problems()
    values = {"size": 3, "rate": 1, "on": True, "word": "b", "items": [1], "text": "x"}
    settings = Settings(values, problems)
    assert settings.take_int("size") == 3
    assert settings.take_float("rate") == 1.0
    assert settings.take_bool("on") is True
    assert settings.take_choice("word", {"a": 10, "b": 20}) == 20
    assert settings.take_list("items") == [1]
    assert settings.take_text("text") == "x"
    assert settings.take_int("absent", default=7) == 7
    settings.finish()
    problems.raise_if_any("folder")


@pytest.mark.parametrize(
    ("values", "read", "named"),
    [
        ({}, lambda s: s.take_int("size"), ["lacks size"]),
        ({"size": True}, lambda s: s.take_int("size"), ["size=True"]),
        ({"size": 0}, lambda s: s.take_int("size"), ["size=0"]),
        ({"size": 2.0}, lambda s: s.take_int("size"), ["size=2.0"]),
        ({"size": 10**12}, lambda s: s.take_int("size"), ["size=1000000000000"]),
        ({"rate": "x"}, lambda s: s.take_float("rate"), ["rate='x'"]),
        ({"rate": float("nan")}, lambda s: s.take_float("rate"), ["rate=nan"]),
        ({"on": 1}, lambda s: s.take_bool("on"), ["on=1"]),
        ({"word": "c"}, lambda s: s.take_choice("word", {"a": 1, "b": 2}), ["'c'", "a, b"]),
        ({"word": ["a"]}, lambda s: s.take_choice("word", {"a": 1}), ["['a']"]),
        ({"on": True}, lambda s: s.require("on", False, why="it would sing"), ["it would sing"]),
        ({"on": 0}, lambda s: s.require("on", False, why="it would sing"), ["on=0"]),
    ],
)
def test_a_wrong_value_is_named(values, read, named):
    (sentence,) = _sentences(values, read)
    for each in named:
        assert each in sentence


def test_unknown_settings_are_all_named_at_once():
    def read(settings):
        settings.take_int("hidden_size")
        settings.ignore("comment")
        settings.finish()

    values = {"hidden_size": 1, "comment": "x", "hiden_size": 4, "use_magic": True}
    first, second = _sentences(values, read)
    assert "hiden_size" in first
    assert "'hidden_size'" in first  # Did you mean ...?
    assert "use_magic" in second


def test_one_error_lists_all_problems_and_counts_those_beyond_twenty():
    problems = Problems()
    for i in range(23):
        problems.add(f"fault {i}")
        problems.add(f"fault {i}")
    with pytest.raises(InputError, match=r"^folder .*fault 0; fault 1; .*fault 19; and 3 more\.$"):
        problems.raise_if_any("folder")
