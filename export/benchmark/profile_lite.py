"""Says where the time of a .tflite goes, by Linux' `perf`, which samples its stack.

    .venv/bin/python -m export.benchmark.profile_lite runs/benchmark/T --beam 4 --batch 64

FOLDER is a model that `decoding.py` prepared. One interpreter of one thread decodes for some
seconds; its speed, and the share of each kind of work, go to stdout as a Markdown table. `perf`
has to be installed, and to be allowed (`kernel.perf_event_paranoid` at most 2).
"""

import argparse
import collections
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from export.benchmark.engines.lite import Engine
from export.benchmark.workload import Workload

FREQUENCY = 1999  # Samples a second.
# What a stack is counted as: the first of these whose text is in one of its frames. Frames are
# compared from the innermost outwards, so that a copy within XNNPACK counts as a copy.
KINDS = (
    ("xnn_f32_gemm", "matrix products"),
    ("xnn_qd8_f32", "matrix products"),
    ("packw", "packing keys and values for products"),
    ("memmove", "copies"),
    ("memset", "copies"),
    ("page_fault", "fresh memory from the system"),
    ("raddstoreexp", "softmax and maxima"),
    ("rmax", "softmax and maxima"),
    ("xnn_", "elementwise operations and XNNPACK's own"),
    ("TopK", "top-k"),
    ("tflite::", "LiteRT's other operations and its own"),
)


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    if options.decode:
        print(decode(options))
        return 0
    if shutil.which("perf") is None:
        print("profile_lite: `perf` is not installed.", file=sys.stderr)
        return 2
    try:
        speed, shares = profile(options)
    except subprocess.CalledProcessError as error:
        print(f"profile_lite: {error.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return 2
    print(f"{options.folder.name}, beam {options.beam}, batch {options.batch}: {speed} tokens/s\n")
    print("| what | share |\n| --- | --- |")
    for kind, share in shares:
        print(f"| {kind} | {share:.1%} |")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Profile a .tflite.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="a model that decoding.py prepared")
    add("--beam", type=int, default=4, help="1 is greedy search")
    add("--batch", type=int, default=64, help="sentences in a batch")
    add("--weights", default="float32", choices=("float32", "int8"), help="which file")
    add("--seconds", type=float, default=5.0, help="how long to decode")
    add("--decode", action="store_true", help=argparse.SUPPRESS)  # What `perf` runs.
    return parser.parse_args()


def decode(options: argparse.Namespace) -> int:
    """Decodes for some seconds and returns the tokens a second."""
    work = Workload.load(options.folder)
    engine = Engine(work, options.beam, weights=options.weights, threads=1)
    batches = work.batches(options.batch, max(options.batch, min(8 * options.batch, 256)))
    tokens, spent = 0, 0.0
    engine.decode(batches[0])
    while spent < options.seconds:
        for batch in batches:
            start = time.perf_counter()
            found = engine.decode(batch)
            spent += time.perf_counter() - start
            tokens += sum(map(len, found))
    return round(tokens / spent)


def profile(options: argparse.Namespace) -> tuple[str, list[tuple[str, float]]]:
    """Decodes under `perf`; returns the speed and the share of each kind of work, largest first."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        record = ["perf", "record", "-e", "cpu-clock", "-F", str(FREQUENCY), "-g", "-o", data]
        module = "export.benchmark.profile_lite"
        again = [sys.executable, "-m", module, *sys.argv[1:], "--decode"]
        done = subprocess.run([*record, *again], check=True, capture_output=True, text=True)
        script = ["perf", "script", "-i", data]
        stacks = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    counts = collections.Counter(kind_of(stack) for stack in split_stacks(stacks.splitlines()))
    del counts[None]  # Python, and reading the file.
    total = counts.total()
    return done.stdout.strip(), [(kind, n / total) for kind, n in counts.most_common()]


def split_stacks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yields the functions of each sample of `perf script`, the innermost first."""
    stack: list[str] = []
    for line in lines:
        if not line.strip():
            yield stack
            stack = []
        elif line[0].isspace():
            stack.append(line.split(maxsplit=1)[-1])
    yield stack


def kind_of(stack: list[str]) -> str | None:
    """Says what a sample was doing; None for what is not LiteRT's work."""
    if not any("InvokeImpl" in frame for frame in stack):
        return None
    for frame in stack:
        for part, kind in KINDS:
            if part in frame:
                return kind
    return "the rest"


if __name__ == "__main__":
    sys.exit(main())
