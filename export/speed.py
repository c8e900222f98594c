"""Times several exports against each other on the same texts, taking turns batch by batch.

    python export/speed.py MODEL [MODEL ...] --source FILE [--batch-size N] [--threads N]

MODEL is a run, a SavedModel or a .tflite; they need not say the same. Prints the median
milliseconds a text of each, and how many times as fast as the first it is, as a Markdown table.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

from ktransformer.engines import Engine, load_engine
from ktransformer.errors import InputError
from ktransformer.text import read_lines


def main() -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--source", required=True, help="texts, a line each")
    parser.add_argument("--batch-size", type=int, default=1, help="texts translated at once")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    try:
        lines, size = list(read_lines(options.source)), options.batch_size
        if not lines or size < 1:
            raise InputError("There must be a text, and --batch-size must be at least 1.")
        engines = [load_engine(model, threads=options.threads) for model in options.models]
    except InputError as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    medians = time_in_turns(engines, [lines[i : i + size] for i in range(0, len(lines), size)])
    print(f"| {len(lines)} texts in batches of {size} | ms a text, median | speed |")
    print("| --- | --- | --- |")
    for model, seconds in zip(options.models, medians, strict=True):
        print(f"| {model} | {1000 * seconds:.2f} | {medians[0] / seconds:.2f} |")
    return 0


def time_in_turns(engines: Sequence[Engine], batches: Sequence[Sequence[str]]) -> list[float]:
    """Returns each engine's median seconds a text."""
    seconds: list[list[float]] = [[] for _ in engines]
    for engine in engines:
        engine.translate_n_best(batches[0])  # The first request lays out memory.
    for batch in batches:
        for engine, times in zip(engines, seconds, strict=True):
            begin = time.perf_counter()
            engine.translate_n_best(batch)
            times.append((time.perf_counter() - begin) / len(batch))
    return [statistics.median(times) for times in seconds]


if __name__ == "__main__":
    sys.exit(main())
