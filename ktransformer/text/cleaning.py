"""Cleaning of parallel text: finds pairs that are hardly translations, by rules with names."""

import collections
import dataclasses
import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ktransformer.errors import InputError, did_you_mean
from ktransformer.numbers import to_float, to_integer
from ktransformer.text.line_limits import is_empty

RULES = ("identical", "script", "ratio", "digits", "duplicates")
"""The names of the rules, in the order in which they are applied."""
EMPTY = "empty"
"""The reason for a pair with an empty side, which no training takes, whatever the rules."""
WEIGHTLESS = "weight 0"
"""The reason for a pair of weight 0, likewise."""

_BLOCK_PAIRS, _BLOCK_CHARACTERS = 10_000, 1 << 24
_FIRST_PAIRS = 1 << 20  # Of the block that decides what is usual, empty ones included.
_FEW_CHARACTERS = 10  # Added to both lengths, so that short texts may differ more.
_USUAL_SHARE = 0.1  # Of a side's letters: a script with so many is one of the side's.
_RUN_PAIRS, _RUNS = 1 << 18, 64  # Hashes in a sorted run, and runs that are kept.
_DIGIT = re.compile(r"\d")
Pair = Sequence[Any]  # A source, a target and possibly a weight.


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """Rules and thresholds.

    "Usual" refers to the first 10,000 pairs of the text with text on both sides; to fewer if they
    have more than 16 million characters, or a million other pairs are between them.

    - identical: the sides are equal, but for case and spaces, and have a letter.
    - script: fewer than `min_script` of a side's letters are in its usual scripts, those that have
      a tenth of the letters. The script is the first word of the character's Unicode name.
    - ratio: the ratio of the sides' characters, each plus 10, is more than `max_ratio` times the
      usual one, the median, or less than the median by that factor.
    - digits: more than `max_digits` digits of both sides together, and more than half, have no
      counterpart on the other side. Zeros do not count.
    - duplicates: an equal pair came before, among the last 16 million that were kept.

    Attributes:
        rules: Names from `RULES`.
        max_ratio: Of the rule ratio, above 1.
        min_script: Of the rule script, from 0 to 1.
        max_digits: Of the rule digits, at least 0.

    Raises:
        InputError: A rule is unknown, or a threshold out of range.
    """

    rules: tuple[str, ...] = RULES
    max_ratio: float = 3.0
    min_script: float = 0.5
    max_digits: int = 2

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in RULES:
                raise InputError(
                    f"clean must be of {', '.join(RULES)}; got {rule!r}."
                    + did_you_mean(rule, RULES)
                )
        if not to_float("max_ratio", self.max_ratio) > 1:
            raise InputError(f"max_ratio must be above 1; got max_ratio={self.max_ratio}.")
        if not 0 <= to_float("min_script", self.min_script) <= 1:
            raise InputError(f"min_script must be from 0 to 1; got min_script={self.min_script}.")
        to_integer("max_digits", self.max_digits, least=0)


class Cleaner:
    """One pass over a text, in memory that does not grow with it beyond 150 MB.

    Args:
        cleaning: The rules.

    Attributes:
        counts: How many pairs were dropped by each rule.
    """

    def __init__(self, cleaning: Cleaning) -> None:
        self._cleaning = cleaning
        self._usual: _Usual | None = None
        self._seen = _SeenPairs()
        self.counts: dict[str, int] = dict.fromkeys(
            (rule for rule in RULES if rule in cleaning.rules), 0
        )

    def keep(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yields the pairs that no rule drops, and those without text or weight, uncounted."""
        for pair, reason in self.judge(pairs):
            if reason not in self.counts:
                yield pair
            else:
                self.counts[reason] += 1

    def judge(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, str | None]]:
        """Yields every pair with the first rule that drops it, `EMPTY`, `WEIGHTLESS` or None."""
        for block, reasons in self._split(pairs):
            whole = [i for i, reason in enumerate(reasons) if reason is None]
            if self._usual is None and whole:
                self._usual = _Usual.find([block[i] for i in whole])
            for i in whole:
                reasons[i] = self._find_reason(str(block[i][0]), str(block[i][1]))
            if "duplicates" in self._cleaning.rules:
                kept = [i for i in whole if reasons[i] is None]
                for i, is_new in zip(kept, self._seen.add([block[i] for i in kept]), strict=True):
                    reasons[i] = None if is_new else "duplicates"
            yield from zip(block, reasons, strict=True)

    def _split(self, pairs: Iterable[Pair]) -> Iterator[tuple[list[Pair], list[str | None]]]:
        """Yields blocks of pairs, and for each pair why no training takes it, or None.

        The first block with a pair that a training takes decides what is usual: the other pairs
        hardly count for its size.
        """
        block: list[Pair] = []
        reasons: list[str | None] = []
        whole = characters = 0
        for pair in pairs:
            reason = None
            if is_empty(pair[0]) or is_empty(pair[1]):
                reason = EMPTY
            elif len(pair) == 3 and pair[2] == 0:
                reason = WEIGHTLESS
            block.append(pair)
            reasons.append(reason)
            whole += reason is None
            characters += len(pair[0]) + len(pair[1])
            decides = self._usual is None and whole > 0
            full = whole == _BLOCK_PAIRS or characters >= _BLOCK_CHARACTERS
            if full or len(block) >= (_FIRST_PAIRS if decides else 2 * _BLOCK_PAIRS):
                yield block, reasons
                block, reasons, whole, characters = [], [], 0, 0
        if block:
            yield block, reasons

    def _find_reason(self, source: str, target: str) -> str | None:
        cleaning, usual = self._cleaning, self._usual
        if usual is None:
            raise ValueError("_find_reason needs the usual ratio and scripts.")
        for rule in self.counts:
            if (
                (rule == "identical" and _are_identical(source, target))
                or (rule == "script" and usual.has_other_script(source, target, cleaning))
                or (rule == "ratio" and usual.has_other_ratio(source, target, cleaning))
                or (rule == "digits" and _differ_in_digits(source, target, cleaning))
            ):
                return rule
        return None


@dataclasses.dataclass(frozen=True)
class _Usual:
    """The usual ratio of a text's lengths, as a logarithm, and the usual scripts of each side."""

    ratio: float
    scripts: tuple[frozenset[str | None], frozenset[str | None]]

    @classmethod
    def find(cls, pairs: Sequence[Pair]) -> "_Usual":
        sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
        ratio = float(np.median([_log_ratio(*pair[:2]) for pair in pairs]))
        return cls(ratio, (_usual_scripts(sources), _usual_scripts(targets)))

    def has_other_ratio(self, source: str, target: str, cleaning: Cleaning) -> bool:
        return abs(_log_ratio(source, target) - self.ratio) > math.log(cleaning.max_ratio)

    def has_other_script(self, source: str, target: str, cleaning: Cleaning) -> bool:
        for text, scripts in zip((source, target), self.scripts, strict=True):
            if not scripts or (text.isascii() and "LATIN" in scripts):
                continue
            counts = _count_scripts(text)
            usual = sum(counts[script] for script in scripts)
            if usual < cleaning.min_script * counts.total():
                return True
        return False


def _log_ratio(source: str, target: str) -> float:
    return math.log((len(target) + _FEW_CHARACTERS) / (len(source) + _FEW_CHARACTERS))


class _Scripts(dict[str, str | None]):
    """The script of each character, None for what is no letter; found when it is first asked."""

    def __missing__(self, character: str) -> str | None:
        script = None
        for letter in unicodedata.normalize("NFKC", character):  # Of a wide or raised letter.
            if script is None and letter.isalpha():
                script = re.split("[ -]", unicodedata.name(letter, "UNKNOWN"))[0]
        # Japanese has both: words are written in one or the other.
        self[character] = "HIRAGANA" if script == "KATAKANA" else script
        return self[character]


_SCRIPTS = _Scripts()


def _count_scripts(text: str) -> "collections.Counter[str | None]":
    """Counts the letters of a text by their script."""
    counts = collections.Counter(map(_SCRIPTS.__getitem__, text))
    del counts[None]
    return counts


def _usual_scripts(texts: Iterable[str]) -> frozenset[str | None]:
    counts = _count_scripts("".join(texts))
    least = _USUAL_SHARE * counts.total()
    return frozenset(script for script, count in counts.items() if count >= least)


def _are_identical(source: str, target: str) -> bool:
    sides = [" ".join(text.split()).casefold() for text in (source, target)]
    return sides[0] == sides[1] and any(map(str.isalpha, sides[0]))


def _differ_in_digits(source: str, target: str, cleaning: Cleaning) -> bool:
    found = [_DIGIT.findall(text) for text in (source, target)]
    if found[0] == found[1]:
        return False
    sides = [collections.Counter(map(unicodedata.digit, digits)) for digits in found]
    for side in sides:
        del side[0]
    lonely = sum(((sides[0] - sides[1]) + (sides[1] - sides[0])).values())
    return lonely > cleaning.max_digits and 2 * lonely > sides[0].total() + sides[1].total()


class _SeenPairs:
    """The hashes of the last pairs, 8 bytes each, in sorted runs."""

    def __init__(self) -> None:
        self._runs: collections.deque[np.ndarray] = collections.deque(maxlen=_RUNS)
        self._recent: set[int] = set()

    def add(self, pairs: Sequence[Pair]) -> list[bool]:
        """Adds pairs, and returns for each whether it is new."""
        hashes = np.array([_hash(pair) for pair in pairs], "uint64")
        is_new = np.ones(len(hashes), bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            is_new &= run[places] != hashes
        for i, number in enumerate(hashes.tolist()):
            is_new[i] &= number not in self._recent
            self._recent.add(number)
        if len(self._recent) >= _RUN_PAIRS:
            self._runs.append(np.sort(np.fromiter(self._recent, "uint64", len(self._recent))))
            self._recent = set()
        return is_new.tolist()


def _hash(pair: Pair) -> int:
    text = f"{pair[0]}\n{pair[1]}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def describe_counts(counts: dict[str, int]) -> str:
    """Returns counts by reason as words, such as `"12 ratio, 3 digits"`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
