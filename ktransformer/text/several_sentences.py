"""Counts the lines of several sentences, cheaply enough to do it beside every translation."""

import re
from collections.abc import Sequence

import tensorflow as tf

from ktransformer.text.character_classes import sentence_marks
from ktransformer.text.code_points import to_bytes, to_code_points
from ktransformer.text.sentences import find_sentences

_READ = 1 << 12  # Characters of a line: nearly every one of several sentences has two in them.
_HELD = 1 << 18  # Characters that are held before they are looked at.


class SeveralSentences:
    """Counts lines that hold several sentences, as `find_sentences` has them.

    Of a line the first 4,096 characters are read. Most lines have no character inside that may end
    a sentence, and cost a regular expression; the others are held until there are many of them.
    """

    def __init__(self) -> None:
        self._mark = re.compile(f"[{re.escape(sentence_marks())}].", re.DOTALL)
        self._waiting: list[str] = []
        self._held = 0
        self._found = 0

    def add(self, lines: Sequence[str]) -> None:
        """Looks at lines."""
        for line in lines:
            start = line[:_READ].strip()
            if self._mark.search(start):
                self._waiting.append(start)
                self._held += len(start)
            if self._held >= _HELD:
                self._look()

    def count(self) -> int:
        """Returns the number of lines so far that hold several sentences."""
        if self._waiting:
            self._look()
        return self._found

    def _look(self) -> None:
        texts = tf.constant([line.encode() for line in self._waiting], tf.string)
        splits = find_sentences(to_code_points(to_bytes(texts))).row_splits.numpy()
        self._found += int((splits[1:] - splits[:-1] > 1).sum())
        self._waiting, self._held = [], 0
