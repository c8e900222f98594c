import pytest

from ktransformer.config import CLEANING_RULES
from ktransformer.errors import InputError
from ktransformer.text import ParallelFiles, ParallelText, cleaning
from ktransformer.text.cleaning import RULES, Cleaner, Cleaning
from tests.small_run import write_pairs

GOOD = [
    (f"a man of {i} years sits on the grass", f"ein Mann von {i} Jahren sitzt auf dem Gras")
    for i in range(20)
]


def reasons(pairs, **options):
    return [reason for _, reason in Cleaner(Cleaning(**options)).judge(pairs)]


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("Berlin  Mitte", "BERLIN Mitte"), "identical"),
        (("402", "402"), None),
        (("the dog runs", "собака бежит"), "script"),
        (("the dog runs", "der Hund, собака, rennt"), None),
        (("a very red hat on a very small dog", "Hut"), "ratio"),
        (("a hat", "Hut"), None),
        (("it cost 1234 then", "es kostete damals nichts"), "digits"),
        (("it cost 12 then", "es kostete damals zwölf"), None),
        (("it was 1987 at 5", "es war 1987 um fünf"), None),
        (("in 1987", "im Jahr 1456"), "digits"),
        (("it costs 500", "es kostet ५"), None),
        (GOOD[1], "duplicates"),
        (("", "leer"), "empty"),
        (("a dog", "ein Hund", 0.0), "weight 0"),
        (("a dog", "ein Hund", 0.1), None),
        (("a 300", "a 300"), "identical"),  # Before digits and duplicates.
    ],
)
def test_a_pair_is_dropped_by_the_first_rule_that_it_breaks(pair, reason):
    assert reasons([*GOOD, pair]) == [None] * 20 + [reason]


def test_a_rule_that_is_not_asked_for_drops_nothing():
    assert reasons([*GOOD, ("Berlin", "Berlin"), GOOD[0]], rules=("ratio",)) == [None] * 22


def test_the_usual_ratio_and_scripts_are_those_of_the_text():
    pairs = [
        ("東京は、とても大きい町です。", f"Tokyo is a very large city, number {i}")
        for i in range(20)
    ]
    pairs += [
        ("カメラを買った。", "I bought a camera yesterday"),
        ("I bought a camera", "A camera"),
    ]
    assert reasons(pairs) == [None] * 21 + ["script"]


@pytest.mark.parametrize("first", [0, 1])  # Pairs before the empty ones.
def test_empty_pairs_do_not_change_what_is_usual(first):
    pairs = [("a very red hat on a very small dog", "Hut"), *GOOD]
    empty = [("", "")] * 19_999
    found = reasons([*pairs[:first], *empty, *pairs[first:]], rules=("ratio",))
    assert [reason for reason in found if reason != "empty"] == ["ratio"] + [None] * 20


def test_what_is_usual_is_found_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(cleaning, "_FIRST_PAIRS", 30_000)
    pairs = iter([GOOD[0], *[("", "")] * 40_000])
    assert next(Cleaner(Cleaning()).judge(pairs)) == (GOOD[0], None)
    assert len(list(pairs)) == 10_001


def test_duplicates_are_found_far_behind_and_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(cleaning, "_BLOCK_PAIRS", 7)
    monkeypatch.setattr(cleaning, "_RUN_PAIRS", 10)
    pairs = [(f"one {i:x}", f"eins {i:x}") for i in range(100)]
    found = reasons([*pairs, *pairs], rules=("duplicates",))
    assert found == [None] * 100 + ["duplicates"] * 100


def test_thresholds_are_those_that_are_given():
    short = ("a red hat on a small dog", "ein Hut")
    assert reasons([*GOOD, short], max_ratio=1.5)[-1] == "ratio"
    assert reasons([*GOOD, ("it is 7", "es ist sieben")], max_digits=0)[-1] == "digits"
    assert reasons([*GOOD, ("the dog", "der Хунд")], min_script=0.9)[-1] == "script"


def test_files_are_cleaned_as_the_text_in_memory_whatever_the_blocks(tmp_path):
    pairs = [*GOOD, ("x", "x"), *GOOD, ("", "leer"), ("in 1987", "im Jahr 1456"), ("y", "y")]
    text = ParallelText(*map(list, zip(*[pair for pair in pairs if pair[0]], strict=True)), 1)
    expected = text.cleaned(Cleaning())
    files = ParallelFiles(*write_pairs(tmp_path, "text", pairs)).cleaned(Cleaning())
    for size in (None, 1, 3):
        for _ in range(2):  # Each pass begins anew.
            blocks = list(files.blocks(size))
            assert [source for block in blocks for source in block.sources] == expected.sources
            assert sum(block.empty for block in blocks) == 1
            counts = [block.dropped for block in blocks]
            sums = {name: sum(each[name] for each in counts) for name in expected.dropped}
            assert sums == expected.dropped
    assert expected.dropped == {
        "identical": 2,
        "script": 0,
        "ratio": 0,
        "digits": 1,
        "duplicates": 20,
    }


def test_a_rule_that_there_is_not_is_an_input_error():
    with pytest.raises(InputError, match=r"digits.*'digit'"):
        Cleaning(("digit",))


@pytest.mark.parametrize(
    "threshold",
    [
        {"max_ratio": 1},
        {"max_ratio": float("nan")},
        {"min_script": 1.1},
        {"min_script": -0.1},
        {"max_digits": -1},
        {"max_digits": 1.5},
    ],
)
def test_a_threshold_out_of_range_is_an_input_error(threshold):
    with pytest.raises(InputError, match=next(iter(threshold))):
        Cleaning(**threshold)


def test_a_text_of_which_nothing_is_left_is_an_input_error():
    with pytest.raises(InputError, match=r"identical.*1"):
        ParallelText(["a"], ["a"], 0).cleaned(Cleaning())


def test_the_settings_and_the_text_have_the_same_rules():
    assert CLEANING_RULES == RULES
