"""Times exports of a sentence encoder against sentence-transformers, in turns.

    python -m training.embeddings.speed OUTPUT --folder FOLDER --lines lines.txt --peer PYTHON

PYTHON is the interpreter of an environment with requirements.txt. In each round every engine embeds
the same lines, on one thread, one engine after the other. It prints the medians of the processor
time over the rounds, in milliseconds a batch: other work on the machine changes that little.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # Before TensorFlow is imported.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import ktransformer

ktransformer.quiet()

from ktransformer.engines import open_model
from ktransformer.text import read_lines
from training.embeddings.compare import encoded
from training.embeddings.convert import FORMS
from training.programs import exit_status

BATCHES = (1, 32)


def main() -> int:
    """Prints the times; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", metavar="OUTPUT", help="what convert.py wrote")
    parser.add_argument("--folder", required=True, help="folder of sentence-transformers")
    parser.add_argument("--lines", required=True, metavar="FILE")
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    return exit_status("speed", lambda: measure(options))


def measure(options: argparse.Namespace) -> None:
    """Times all engines and prints a row for each."""
    lines = list(read_lines(options.lines))
    engines: dict[str, Callable[[list[str]], float]] = {
        form: engine(Path(options.output) / form) for form in FORMS
    }
    program = str(Path(__file__).with_name("reference.py"))
    command = [options.peer, program, options.folder, "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        engines["sentence-transformers"] = lambda batch: ask(peer, batch)
        print("| engine | " + " | ".join(f"batch {size}" for size in BATCHES) + " |")
        print("| --- |" + " --- |" * len(BATCHES))
        times = {size: rounds(engines, lines, size, options.rounds) for size in BATCHES}
        for name in engines:
            shown = [f"{1000 * statistics.median(times[size][name]):.1f} ms" for size in BATCHES]
            print(f"| {name} | {' | '.join(shown)} |")


def engine(path: Path) -> Callable[[list[str]], float]:
    """Opens an export; the function embeds a batch and returns the seconds."""
    one_thread = {"threads": 1} if path.suffix else {}
    model = open_model(path, **one_thread)

    def run(batch: list[str]) -> float:
        texts = encoded(batch)
        start = time.process_time()
        model.run("serving_default", texts=texts)
        return time.process_time() - start

    return run


def ask(peer: subprocess.Popen[str], batch: list[str]) -> float:
    """Has the worker embed a batch, and returns its seconds."""
    assert peer.stdin is not None
    assert peer.stdout is not None
    peer.stdin.write(json.dumps(batch) + "\n")
    peer.stdin.flush()
    return float(peer.stdout.readline())


def rounds(
    engines: dict[str, Callable[[list[str]], float]], lines: list[str], size: int, count: int
) -> dict[str, list[float]]:
    """Returns the seconds of each engine in each round; the first two rounds do not count."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for i in range(count + 2):
        batch = [lines[(37 * (i * size + j)) % len(lines)] for j in range(size)]
        for name, run in engines.items():
            seconds = run(batch)
            if i >= 2:
                times[name].append(seconds)
        print(f"{size}: round {i + 1} of {count + 2}", file=sys.stderr)
    return times


if __name__ == "__main__":
    raise SystemExit(main())
