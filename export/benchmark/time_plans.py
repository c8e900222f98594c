"""Times a .tflite under several plans: interpreters, their threads, the parts of a batch.

    .venv/bin/python -m export.benchmark.time_plans runs/benchmark/B --batch 64 2,1:64 1,1:32 2:32

FOLDER is a model that `decoding.py` prepared. A plan, such as `1,1:32`, is the threads of each
interpreter, which share every batch if there are several, and the most hypotheses of a part. The
plans take turns, batch by batch; the medians, and the speeds to the first plan's, go to stdout as a
Markdown table. `ktransformer.exporting.lite.plan` was written from such tables.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from export.benchmark.tables import table
from export.benchmark.workload import Ids, Workload
from ktransformer.engines.lite import LiteEngine
from ktransformer.exporting.lite.plan import LitePlan


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    path = options.folder / f"beam{options.beam}.{options.weights}.tflite"
    if not path.is_file():
        print(f"time_plans: {options.folder} was not prepared.", file=sys.stderr)
        return 2
    engines = [open_engine(path, plan) for plan in options.plans]
    batches = Workload.load(options.folder).batches(
        options.batch, max(options.batch, options.sentences // options.batch * options.batch)
    )
    seconds = time_engines(engines, batches, options.rounds)
    medians = [1000 * statistics.median(each) / options.batch for each in seconds]
    rows = [
        [str(engine.plan), f"{median:.2f}", f"{medians[0] / median:.2f}"]
        for engine, median in zip(engines, medians, strict=True)
    ]
    print(table(["plan", "ms a text", "speed to the first plan's"], rows))
    return 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Time plans of a .tflite.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="a model that decoding.py prepared")
    add("plans", metavar="PLAN", nargs="+", type=parse_plan, help="such as 1,1:32")
    add("--beam", type=int, default=1, help="1 is greedy search")
    add("--batch", type=int, default=64, help="sentences in a batch")
    add("--weights", default="float32", choices=("float32", "int8"), help="which file")
    add("--sentences", type=int, default=128, help="sentences of a round")
    add("--rounds", type=int, default=5, help="how often they are decoded")
    return parser.parse_args()


def parse_plan(text: str) -> LitePlan:
    """Reads a plan such as `1,1:32`."""
    threads, _, most = text.partition(":")
    counts = tuple(int(count) for count in threads.split(","))
    return LitePlan(counts, 2 if len(counts) > 1 else None, most=int(most))


def open_engine(path: Path, plan: LitePlan) -> LiteEngine:
    """Opens a file with a plan of ours in place of the engine's own."""
    with mock.patch("ktransformer.exporting.lite.model.choose_plan", return_value=plan):
        return LiteEngine(path)


def time_engines(
    engines: Sequence[LiteEngine], batches: Sequence[Sequence[Ids]], rounds: int
) -> list[list[float]]:
    """Returns each engine's seconds for a batch, after a first one that is not counted."""
    seconds: list[list[float]] = [[] for _ in engines]
    for engine in engines:
        engine.translate_ids(batches[0])
    for _ in range(rounds):
        for batch in batches:
            for engine, taken in zip(engines, seconds, strict=True):
                start = time.perf_counter()
                engine.translate_ids(batch)
                taken.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
