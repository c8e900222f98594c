"""Keeps, of several translations of each text, the one that is nearest to its reference.

    ktransformer translate RUN --n-best N < SOURCE \
        | python -m training.translation.nearest --n-best N --reference F > NEAREST

As a text to train on, these are what a model finds probable and a translator nearly wrote
(sequence-level interpolation, Kim and Rush 2016). The nearest has the highest sentence BLEU; of two
as near it is the first, for `translate` the more probable one.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from ktransformer.errors import InputError
from ktransformer.scores import nearest_text
from ktransformer.text import read_lines


def main() -> int:
    """Prints a line for each reference; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--n-best", type=int, required=True, metavar="N", help="lines on stdin for each text"
    )
    parser.add_argument("--reference", required=True, metavar="F", help="a line for each text")
    parser.add_argument(
        "--tokenize", default="13a", choices=("13a", "none"), help="BLEU's (default: 13a)"
    )
    options = parser.parse_args()
    sys.stdin.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        references = list(read_lines(options.reference))
        lines = sys.stdin.read().removesuffix("\n").split("\n")
        if options.n_best < 1 or len(lines) != options.n_best * len(references):
            raise InputError(
                f"stdin must have --n-best lines for each of the {len(references):,} of "
                f"{options.reference}; --n-best is {options.n_best}, the lines are {len(lines):,}"
            )
        for reference, candidates in zip(references, batched(lines, options.n_best), strict=True):
            print(nearest_text(candidates, reference, tokenize=options.tokenize))
    except (UnicodeDecodeError, InputError, OSError) as error:
        print(f"nearest: {error}", file=sys.stderr)
        return 2
    return 0


def batched(lines: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yields the lines, `size` at a time."""
    return (lines[start : start + size] for start in range(0, len(lines), size))


if __name__ == "__main__":
    sys.exit(main())
