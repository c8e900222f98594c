"""Says which of TensorFlow's operations take the time of a plain SavedModel.

    .venv/bin/python -m export.benchmark.profile_saved_model runs/benchmark/T --beam 1 --batch 1

FOLDER is a model that `decoding.py` prepared. A batch is decoded three times, then `--rounds` times
under TensorFlow's trace. The table has the `--rows` kinds of operations that take longest: how
often one ran for the batch, microseconds of each, and their share of all. What two threads do at
once counts twice, and the trace slows small operations down, so the shares count, not the sums.
"""

import argparse
import collections
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

import tensorflow.compat.v1 as tf

from export.benchmark.engines.saved_model import padded
from export.benchmark.workload import Workload

_WARM_UP = 3


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    if not (options.folder / "workload.json").is_file():
        print(f"profile_saved_model: {options.folder} was not prepared.", file=sys.stderr)
        return 2
    calls, spent = trace(options)
    total = sum(spent.values())
    print("| operation | calls | µs each | share |\n| --- | --- | --- | --- |")
    for kind, microseconds in spent.most_common(options.rows):
        count = calls[kind] / options.rounds
        each = microseconds / calls[kind]
        print(f"| {kind} | {count:,.0f} | {each:.1f} | {microseconds / total:.1%} |")
    print(f"| all | {sum(calls.values()) / options.rounds:,.0f} | | |")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Profile a plain SavedModel.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="a model that decoding.py prepared")
    add("--beam", type=int, default=1, help="1 is greedy search")
    add("--batch", type=int, default=1, help="sentences in a batch")
    add("--rounds", type=int, default=5, help="batches that are profiled")
    add("--rows", type=int, default=8, help="kinds of operations in the table")
    return parser.parse_args()


def trace(options: argparse.Namespace) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """Returns how often each kind of operation ran, and its microseconds."""
    batch = Workload.load(options.folder).batches(options.batch, options.batch)[0]
    calls: collections.Counter[str] = collections.Counter()
    spent: collections.Counter[str] = collections.Counter()
    with tf.Graph().as_default(), tf.Session() as session:
        path = str(options.folder / f"beam{options.beam}" / "1")
        signature = tf.saved_model.load(session, ["serve"], path).signature_def["ids"]
        outputs = {key: info.name for key, info in signature.outputs.items()}
        inputs = {signature.inputs["source"].name: padded(batch)}
        for _ in range(_WARM_UP):
            session.run(outputs, inputs)
        traced = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        for _ in range(options.rounds):
            found = tf.RunMetadata()
            session.run(outputs, inputs, options=traced, run_metadata=found)
            for device in found.step_stats.dev_stats:
                for node in device.node_stats:  # Labelled `NAME = KIND(INPUTS)`.
                    kind = node.timeline_label.partition(" = ")[2].partition("(")[0]
                    if kind:
                        calls[kind] += 1
                        spent[kind] += node.op_end_rel_micros - node.op_start_rel_micros
    return calls, spent


if __name__ == "__main__":
    sys.exit(main())
