"""Hard cases for the splitter of sentences: `sentence_cases.txt`, written for this project.

A line is a language, a tab, and a text in which `‖` stands between two sentences. The second, the
fourth, ... case of each language is held back: rules and words are chosen on the others alone.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple


class SentenceCase(NamedTuple):
    """A text and its sentences."""

    language: str
    text: str
    sentences: list[str]
    held_back: bool


def sentence_cases() -> list[SentenceCase]:
    """Reads the cases."""
    lines = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    seen: Counter[str] = Counter()
    cases = []
    for line in lines:
        language, text = line.split("\t")
        sentences = [sentence.strip() for sentence in text.split("‖")]
        held_back = seen[language] % 2 == 1
        seen[language] += 1
        cases.append(SentenceCase(language, text.replace("‖", ""), sentences, held_back))
    return cases
