"""Writes parallel text as lower-case words without punctuation, for statistical aligners.

python -m training.alignment.words FILE... > words
"""

import sys
from pathlib import Path

_PUNCTUATION = ".,;:!?\"'()"


def to_words(line: str) -> list[str]:
    """Returns the words that spaces separate, in lower case and without punctuation around them."""
    return [word.lower().strip(_PUNCTUATION) or word for word in line.split()]


if __name__ == "__main__":
    for path in sys.argv[1:]:
        for line in Path(path).read_text().splitlines():
            print(" ".join(to_words(line)))
