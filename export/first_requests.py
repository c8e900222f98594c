"""Measures what the first requests to an export cost, with and without its `warmup()`.

    python export/first_requests.py MODEL [--warmup] [--requests 100] < TEXTS

MODEL is a SavedModel's folder or a .tflite. The process opens it, warms it up if it is told to, and
sends the texts one by one, in the order in which they come: their lengths, and so all shapes in the
graph, change from one to the next. It prints the seconds of opening and of the warm-up, the
milliseconds of the first request, of the hundredth and of the slowest but for the first, the median
of the last half, and the memory that the process holds, before and after the requests.
"""

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

from ktransformer.engines import load_engine
from ktransformer.errors import InputError
from ktransformer.text.line_blocks import read_blocks


def main() -> int:
    """Runs the measurement; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the first requests to an export.")
    parser.add_argument("model", metavar="MODEL", help="folder of a SavedModel, or .tflite file")
    parser.add_argument("--warmup", action="store_true", help="call warmup() before")
    parser.add_argument("--requests", type=int, default=100, metavar="N", help="at least 4")
    options = parser.parse_args()
    try:
        measure(options.model, options.requests, warmup=options.warmup)
    except InputError as error:
        print(f"first_requests: {error}", file=sys.stderr)
        return 2
    return 0


def measure(model: str, requests: int, *, warmup: bool) -> None:
    """Opens the model, sends it so many texts of standard input, and prints what it took.

    Raises:
        InputError: There are too few, or the model cannot be opened.
    """
    blocks = read_blocks(sys.stdin.fileno(), "standard input")
    texts = list(itertools.islice(itertools.chain.from_iterable(blocks), requests))
    if len(texts) < 4:
        raise InputError("give at least 4 texts on standard input.")
    before = resident_mebibytes()
    start = time.perf_counter()
    engine = load_engine(model, threads=1)
    print(f"open {time.perf_counter() - start:.2f} s")
    if warmup:
        start = time.perf_counter()
        engine.warmup()
        print(f"warm-up {time.perf_counter() - start:.2f} s")
    opened = resident_mebibytes()
    times = []
    for text in texts:
        start = time.perf_counter()
        engine.translate([text])
        times.append(1000 * (time.perf_counter() - start))
    typical = statistics.median(times[len(times) // 2 :])
    print(f"request 1: {times[0]:.1f} ms, request {len(times)}: {times[-1]:.1f} ms")
    print(f"slowest after the first: {max(times[1:]):.1f} ms, median of the last half: ", end="")
    print(f"{typical:.1f} ms")
    print(f"requests of more than 3 medians, the first aside: {slow(times[1:], 3 * typical)}")
    print(f"memory: {before:.0f} MiB before it was opened, {opened:.0f} after, ", end="")
    print(f"{resident_mebibytes():.0f} after the requests")


def slow(times: list[float], limit: float) -> int:
    """Counts the times above a limit."""
    return sum(each > limit for each in times)


def resident_mebibytes() -> float:
    """Reads what the process holds in memory, of Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    sys.exit(main())
