"""Counts the lines of several sentences, cheaply enough to do it beside every translation."""

import re
import sys
from collections.abc import Sequence

from ktransformer.text.character_classes import sentence_marks

_READ = 1 << 12  # Characters of a line: nearly every one of several sentences has two in them.
_HELD = 1 << 18  # Characters that are held before they are looked at.


class SeveralSentences:
    """Counts lines that hold several sentences, as `find_sentences` has them.

    A process without TensorFlow does not import it for this: there a rule of thumb counts them,
    which takes a stop behind a short word for that of an abbreviation.

    Of a line the first 4,096 characters are read. Most lines have no character inside that may end
    a sentence, and cost a regular expression; the others are held until there are many of them.

    Attributes:
        exact: Whether `find_sentences` counts them.
    """

    def __init__(self) -> None:
        self.exact = "tensorflow" in sys.modules
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
        count = _count_exactly if self.exact else _count_roughly
        self._found += count(self._waiting)
        self._waiting, self._held = [], 0


def _count_exactly(lines: Sequence[str]) -> int:
    import tensorflow as tf

    from ktransformer.text.code_points import to_bytes, to_code_points
    from ktransformer.text.sentences import find_sentences

    texts = tf.constant([line.encode() for line in lines], tf.string)
    splits = find_sentences(to_code_points(to_bytes(texts))).row_splits.numpy()
    return int((splits[1:] - splits[:-1] > 1).sum())


def _count_roughly(lines: Sequence[str]) -> int:
    """Counts lines with a word of at least four letters, a stop, a space and no small letter."""
    marks = re.escape(sentence_marks())
    end = re.compile(rf"[^\W\d_]{{4,}}[{marks}]++(?:[^\w\s]*+\s)++[^\w\s]*+(\w)")
    return sum(any(not found[1].islower() for found in end.finditer(line)) for line in lines)
