"""Measures what `translate` takes to count the lines of several sentences.

    python -m tests.text.time_several_sentences train.en

Takes the first 10,000 lines of a file as they are, and then three joined to one, 10,000 times.
"""

import argparse
import time

from ktransformer.text import read_lines
from ktransformer.text.several_sentences import SeveralSentences

_LINES, _BLOCK = 10_000, 1000


def measure(name: str, lines: list[str]) -> None:
    """Prints the processor time of the first block, which builds tables, and of all."""
    counted, begin = SeveralSentences(), time.process_time()
    counted.add(lines[:_BLOCK])
    counted.count()
    first = time.process_time() - begin
    for start in range(_BLOCK, len(lines), _BLOCK):
        counted.add(lines[start : start + _BLOCK])
    several = counted.count()
    print(
        f"{name}: {several} of {len(lines)} lines hold several sentences, "
        f"{sum(map(len, lines))} characters, {time.process_time() - begin:.2f} s of CPU, "
        f"{first:.2f} s of it for the first {_BLOCK} lines"
    )


def main() -> None:
    """Prints a line for each of the two texts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", metavar="FILE", help="at least 10,002 lines")
    lines = list(read_lines(parser.parse_args().source))
    joined = [" ".join(lines[i : i + 3]) for i in range(_LINES)]
    measure("as they are", lines[:_LINES])
    measure("three joined", joined)


if __name__ == "__main__":
    main()
