# ruff: noqa: RUF001  The letters of many scripts are what is tested.

import collections
import datetime
import re
import sys

import pytest

pytest.importorskip("babel")

from tests.run_command import program
from training.dates import data, demo

SMALL = data.Generation(train=3000, validation=100, test=200)


@pytest.fixture(scope="module")
def parts():
    return data.generate(SMALL)


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("en_US", "Tuesday, March 3, 2026"),
        ("de", "Dienstag, 3. März 2026"),
        ("de", "03.03.2026"),
        ("es", "martes, 3 de marzo de 2026"),
        ("sv", "2026-03-03"),
        ("tr", "3 Mart 2026 Salı"),
        ("hu", "2026. március 3., kedd"),
        ("ru", "вторник, 3 марта 2026 г."),
        ("el", "Τρίτη 3 Μαρτίου 2026"),
        ("ja", "2026年3月3日火曜日"),
        ("ko", "2026년 3월 3일 화요일"),
        ("zh", "2026/3/3周二"),
    ],
)
def test_a_locale_writes_the_third_of_march_so(locale, text):
    date = datetime.date(2026, 3, 3)
    texts = [data.write_date(date, p, locale) for p in data.date_patterns(locale)]
    assert text in texts


@pytest.mark.parametrize("locale", data.LOCALES)
def test_a_locale_has_several_formats(locale):
    assert len(data.date_patterns(locale)) >= 4


@pytest.mark.parametrize("pattern", ["MMMM d, y", "d.M.y", "y-MM-dd", "y年M月d日", "d MMM y 'MM'"])
def test_a_named_month_a_year_first_or_a_dotted_day_first_is_unambiguous(pattern):
    assert data.is_unambiguous(pattern)


@pytest.mark.parametrize(
    "pattern", ["M/d/y", "dd/MM/y", "d-M-y", "d.M.yy", "MMMM y", "y", "M.d.y", "MMMM d", "y-dd-MM"]
)
def test_a_numeric_month_in_doubt_a_short_year_or_a_part_of_a_date_is_ambiguous(pattern):
    assert not data.is_unambiguous(pattern)


def test_every_year_month_and_day_appears_in_the_text_of_its_date(parts):
    for source, target in zip(parts["train"].sources, parts["train"].targets, strict=True):
        date = datetime.date.fromisoformat(target)
        numbers = [int(number) for number in re.findall(r"\d+", source)]
        assert SMALL.first_year <= date.year <= SMALL.last_year
        assert {date.year, date.day} <= set(numbers)
        # Either the month is the third number, or it is a word.
        assert len(numbers) == 2 or sorted(numbers) == sorted([date.year, date.month, date.day])


def test_a_seed_gives_the_same_pairs_and_another_seed_others(parts):
    assert data.generate(SMALL) == parts
    other = data.generate(data.Generation(train=3000, validation=100, test=200, seed=2))
    assert other["train"] != parts["train"]


def test_the_parts_have_their_sizes_and_no_text_twice(parts):
    assert [len(parts[name].sources) for name in data.PARTS] == [3000, 100, 200]
    texts = [text for name in data.PARTS for text in parts[name].sources]
    assert len(set(texts)) == len(texts)


def test_no_text_means_two_dates_whatever_the_locale():
    meanings = collections.defaultdict(set)
    for locale in data.LOCALES:
        for pattern in data.date_patterns(locale):
            for day in range(0, 400):  # More than a year: every month, day and weekday.
                date = datetime.date(2023, 12, 1) + datetime.timedelta(days=day)
                meanings[data.write_date(date, pattern, locale)].add(date)
    assert [text for text, dates in meanings.items() if len(dates) > 1] == []


def test_the_files_hold_a_text_a_line(parts, tmp_path):
    data.write_parts(parts, tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    lines = (tmp_path / "test.source").read_text(encoding="utf-8").split("\n")
    assert lines == [*parts["test"].sources, ""]


@pytest.mark.long
def test_a_tiny_demo_goes_the_whole_way_and_says_that_it_is_not_good_enough(tmp_path):
    arguments = ("--output", tmp_path / "dates", "--pairs", 400, "--epochs", 1)
    result = program("training.dates.demo", *arguments)
    lines = result.stdout.splitlines()
    assert lines, result.stderr
    assert re.fullmatch(r"exact match 0\.\d{3} on 1000 held-out dates", lines[-1])
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("is below 0.990.")
    assert sum(" -> " in line for line in lines) == 5
    for name in ("dates/model.json", "dates.data/test.source", "dates.export/1/saved_model.pb"):
        assert (tmp_path / name).is_file()
    assert (tmp_path / "dates.attention.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "dates.checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--output", "letters"], "letters is not a run folder"),
        (["--output", "letters/1.txt"], "letters/1.txt is a file"),
        (["--output", "letters/1.txt/dates"], "letters/1.txt"),
        (["--pairs", "5"], "train=5"),
        (["--epochs", "0"], "epochs=0"),
        (["--epochs", "many"], "'many'"),
    ],
)
def test_a_bad_argument_is_one_sentence_and_writes_nothing(
    arguments, reason, tmp_path, monkeypatch, capsys
):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "1.txt").write_text("Dear reader")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo.py", *arguments])
    assert demo.main() == 2
    captured = capsys.readouterr()
    (sentence,) = captured.err.splitlines()
    assert captured.out == ""
    assert sentence.startswith("demo: ")
    assert reason in sentence
    assert [path.name for path in tmp_path.rglob("*")] == ["letters", "1.txt"]
