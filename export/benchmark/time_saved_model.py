"""Says how much processor time a SavedModel takes for each step of its search.

    .venv/bin/python -m export.benchmark.time_saved_model runs/benchmark/T --beam 1 --batch 1

FOLDER is a model that `decoding.py` prepared. TensorFlow gets one thread. Processor time, because
on a machine with other work the clock measures that work, too; the mean of `--rounds` batches
after a first one, which is not counted, goes to stdout. With `TF_ENABLE_ONEDNN_OPTS=0` in the
environment TensorFlow leaves its oneDNN kernels out, so that the two runs say what these cost or
bring.
"""

import argparse
import sys
import time
from pathlib import Path

import tensorflow as tf

from export.benchmark.engines.saved_model import Engine
from export.benchmark.workload import Workload


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    if not (options.folder / "workload.json").is_file():
        print(f"time_saved_model: {options.folder} was not prepared.", file=sys.stderr)
        return 2
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    work = Workload.load(options.folder)
    engine = Engine(work, options.beam)
    print(f"{time_step(engine, work, options.batch, options.rounds):.2f} ms a step")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Time the steps of a SavedModel.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="a model that decoding.py prepared")
    add("--beam", type=int, default=1, help="1 is greedy search")
    add("--batch", type=int, default=1, help="sentences in a batch")
    add("--rounds", type=int, default=30, help="batches that are timed")
    return parser.parse_args()


def time_step(engine: Engine, work: Workload, size: int, rounds: int) -> float:
    """Returns milliseconds of processor time for each step, the encoder's share included.

    Args:
        engine: Decodes.
        work: What is decoded: its first batch, again and again.
        size: Sentences in a batch.
        rounds: How often it is timed.
    """
    batch = work.batches(size, size)[0]
    steps = max(map(len, engine.decode(batch)))
    start = time.process_time()
    for _ in range(rounds):
        engine.decode(batch)
    return 1000 * (time.process_time() - start) / (rounds * steps)


if __name__ == "__main__":
    sys.exit(main())
