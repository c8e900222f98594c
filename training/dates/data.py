"""Dates as people of many languages write them, paired with ISO 8601; made with Babel."""

import dataclasses
import datetime
import random
import re
import unicodedata
from pathlib import Path

from babel import Locale
from babel.dates import DateTimePattern, parse_pattern

from ktransformer.config.checks import check, check_range
from ktransformer.files import new_file

LOCALES = (
    *("en_US", "en_GB", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb", "fi"),
    *("pl", "cs", "ru", "uk", "tr", "hu", "ro", "el", "ja", "ko", "zh"),
)
"""Month names, word orders and scripts that differ: Latin, Cyrillic, Greek, Han, Hangul."""

LENGTHS = ("full", "long", "medium", "short")
SKELETONS = ("yMd", "yMEd", "yMMMd", "yMMMEd", "yMMMMd", "yMMMMEd")
"""CLDR's names of further formats: numeric, abbreviated and full month, with and without day."""

PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Generation:
    """What to generate."""

    train: int = 50_000
    """Pairs to train on, from 100 to a million."""
    validation: int = 500
    """Pairs to watch the training with."""
    test: int = 1_000
    """Pairs held out until the end."""
    first_year: int = 1900
    """The first Gregorian year."""
    last_year: int = 2099
    """The last Gregorian year."""
    seed: int = 1
    """Seed of every choice."""

    def __post_init__(self) -> None:
        check_range(self, "train", least=100, most=1_000_000)
        years = {"first_year": self.first_year, "last_year": self.last_year}
        ordered = 1000 <= self.first_year <= self.last_year <= 9999
        check(ordered, "first_year and last_year must be in order and of four digits", **years)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Texts and the ISO dates they mean, line for line."""

    sources: list[str]
    targets: list[str]


def generate(options: Generation) -> dict[str, Pairs]:
    """Generates the pairs of the three parts; no text is in two of them.

    Returns:
        `train`, `validation` and `test`.
    """
    meanings = _draw(options, options.train + options.validation + options.test)
    items = list(meanings.items())  # In the order of drawing, which is random already.
    parts, start = {}, 0
    for name in PARTS:
        end = start + getattr(options, name)
        sources, targets = map(list, zip(*items[start:end], strict=True))
        parts[name] = Pairs(sources, targets)
        start = end
    return parts


def _draw(options: Generation, count: int) -> dict[str, str]:
    """Draws texts until `count` different ones are there, and gives each its ISO date.

    Raises:
        ValueError: A text means two dates.
    """
    draw = random.Random(options.seed)
    first = datetime.date(options.first_year, 1, 1).toordinal()
    last = datetime.date(options.last_year, 12, 31).toordinal()
    formats = {name: date_patterns(name) for name in LOCALES}
    meanings: dict[str, str] = {}
    while len(meanings) < count:
        locale = draw.choice(LOCALES)
        pattern = draw.choice(formats[locale])
        date = datetime.date.fromordinal(draw.randint(first, last))
        text = write_date(date, pattern, locale)
        meaning = meanings.setdefault(text, date.isoformat())
        if meaning != date.isoformat():
            raise ValueError(f"{text!r} means two dates: {meaning} and {date.isoformat()}.")
    return meanings


def date_patterns(locale: str) -> list[DateTimePattern]:
    """Returns the different unambiguous date formats that CLDR has for a locale, parsed."""
    known = Locale.parse(locale)
    patterns = [known.date_formats[length] for length in LENGTHS]
    patterns += [known.datetime_skeletons.get(name) for name in SKELETONS]
    # Sets have no fixed order, dictionaries do.
    different = dict.fromkeys(getattr(p, "pattern", p) for p in patterns if p is not None)
    return [parse_pattern(pattern) for pattern in different if is_unambiguous(pattern)]


def is_unambiguous(pattern: str) -> bool:
    """Tells whether a text of this CLDR pattern means the same date in every language.

    It does if it has a year of four digits, a month and a day, and one of these holds: the month
    is a word; the order is year, month, day; day and month are followed by dots, a day-first
    habit. What is left out: `3/4/2026` and `3-4-2026`, months or days first by country, and years
    of two digits.
    """
    bare = re.sub(r"'[^']*'", "", pattern)
    fields = [field.replace("L", "M") for field in re.findall(r"G+|y+|[ML]+|d+", bare)]
    order = "".join(field[0] for field in fields)
    if sorted(order) != ["M", "d", "y"] or "yy" in fields:
        return False
    month_is_word = "MMM" in fields or "MMMM" in fields
    return month_is_word or order == "yMd" or bool(re.search(r"d\. ?M+\.", bare))


def write_date(date: datetime.date, pattern: DateTimePattern, locale: str) -> str:
    """Writes a date in a locale's pattern, in the normal form that the tokenizer sees."""
    return " ".join(unicodedata.normalize("NFKC", pattern.apply(date, locale)).split())


def script(text: str) -> str:
    """Returns the script of a text's last letter, as Unicode names it; empty without a letter.

    LATIN, CYRILLIC, GREEK, HANGUL or CJK (Han).
    """
    letters = [letter for letter in text if letter.isalpha()]
    return unicodedata.name(letters[-1]).split()[0] if letters else ""


def write_parts(parts: dict[str, Pairs], folder: str | Path) -> None:
    """Writes `train.source`, `train.target` and so on, a text per line.

    Args:
        parts: What `generate` returned.
        folder: Where to; made if missing.
    """
    for name, pairs in parts.items():
        for side, lines in (("source", pairs.sources), ("target", pairs.targets)):
            text = "".join(f"{line}\n" for line in lines)
            with new_file(Path(folder) / f"{name}.{side}") as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
