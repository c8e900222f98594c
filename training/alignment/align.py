"""Writes the links of words that the aligner of guided alignment finds, a line a pair.

python -m training.alignment.align --train train.en train.de --source val.en --target val.de > links
python -m training.alignment.measure --links links

It learns from the training text and the pairs themselves, as lower-case words without punctuation.
A target word is linked to its likeliest source word, or to none.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ktransformer.text.aligner import Aligner
from ktransformer.text.special_ids import DEFAULT_SPECIAL_IDS
from training.alignment.words import to_words

_FIRST = 4  # Ids below are special.


class Vocabulary:
    """Numbers words in the order in which they come."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def __len__(self) -> int:
        return _FIRST + len(self._ids)

    def encode(self, path: str | Path) -> list[np.ndarray]:
        """Returns the ids of each line, ended."""
        return [
            np.array(
                [
                    *(self._ids.setdefault(word, len(self)) for word in to_words(line)),
                    DEFAULT_SPECIAL_IDS.end,
                ]
            )
            for line in Path(path).read_text().splitlines()
        ]


def align(train: Sequence[str], pairs: Sequence[str]) -> list[str]:
    """Returns the links of each pair, such as `0-0 1-2`.

    Args:
        train: The files of the training text, source and target.
        pairs: The files of the pairs, likewise.
    """
    vocabularies = Vocabulary(), Vocabulary()
    learned, wanted = (
        [
            *zip(
                *(each.encode(path) for each, path in zip(vocabularies, paths, strict=True)),
                strict=True,
            )
        ]
        for paths in (train, pairs)
    )
    sizes = len(vocabularies[0]), len(vocabularies[1])
    aligner = Aligner.train([*learned, *wanted], sizes, (DEFAULT_SPECIAL_IDS, DEFAULT_SPECIAL_IDS))
    lines = []
    for source, target in wanted:
        best = aligner.align(source[None], target[None])[0].argmax(axis=1)
        none = len(source) - 1
        links = [f"{best[i]}-{i}" for i in range(len(target) - 1) if best[i] != none]
        lines.append(" ".join(links))
    return lines


def main() -> None:
    """Reads the command line and prints the links."""
    parser = argparse.ArgumentParser(description="Align words.")
    parser.add_argument("--train", nargs=2, required=True, help="both sides of the training text")
    parser.add_argument("--source", required=True, help="source side of the pairs")
    parser.add_argument("--target", required=True, help="their target side")
    options = parser.parse_args()
    print(*align(options.train, (options.source, options.target)), sep="\n")


if __name__ == "__main__":
    main()
