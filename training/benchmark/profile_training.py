"""Says where the time of our training step goes, by TensorFlow's profiler.

    .venv/bin/python -m training.benchmark.profile_training runs/training-benchmark/tiny

FOLDER is a workload that `training_speed.py` prepared. The step is trained for some rounds on its
first batch; the share of each kind of operation in the time of all operations goes to stdout as a
Markdown table. Operations run side by side where they can, so the times add up to more than the
step takes.
"""

import argparse
import collections
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from training.benchmark import engine_ours
from training.benchmark.training_workload import TrainingWorkload

# What an operation is counted as: the first of these that is found in its name and type.
KINDS = (
    (
        # In the loop over positions, or of the model itself rather than of one of its layers.
        r"while/.*MatMul$|transformer(_\d+)?/(ArithmeticOptimizer/\w*)?MatMul.*MatMul$",
        "matrix products: output projection, with its gradients",
    ),
    (r"while/|Call/\w+:\w+$|compile_loss", "softmax, loss, accuracy, and their gradients"),
    (r"MatMul\w*$", "matrix products: attention and feed-forward, with their gradients"),
    (r"(?i)dropout|random", "dropout"),
    (r"(?i)/adam|optimizer|cond/", "optimizer"),
    (r"_norm", "norms"),
    (r"attention", "attention: softmax, masks, heads"),
    (r"feed_forward", "feed-forward: biases and relu"),
    (r"embedding|UnsortedSegment", "embedding"),
    (r"Iterator|Dataset|PyFunc", "data"),
)


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    if not (options.folder / "workload.json").is_file():
        print(f"profile_training: {options.folder} is no workload.", file=sys.stderr)
        return 2
    work = TrainingWorkload.load(options.folder)
    engine = engine_ours.Engine(work, whole_logits=options.whole_logits, jit_compile=False)
    batches = list(work.batches[:1]) * options.steps
    engine.fit(batches)
    start = time.perf_counter()
    engine.fit(batches)
    seconds = (time.perf_counter() - start) / len(batches)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        engine.fit(batches)
        tf.profiler.experimental.stop()
        operations = collections.Counter(dict(read_operations(Path(folder))))
    kinds: collections.Counter[str] = collections.Counter()
    for name, spent in operations.items():
        kinds[kind_of(name)] += spent
    total = kinds.total()
    print(f"{options.folder.name}: {seconds:.2f} s a step; its operations, added up:")
    print("\n| what | s a step | share |\n| --- | --- | --- |")
    for kind, spent in kinds.most_common():
        print(f"| {kind} | {spent / len(batches):.3f} | {spent / total:.0%} |")
    if options.operations:
        print("\n| operation | s a step |\n| --- | --- |")
        for name, spent in operations.most_common(options.operations):
            print(f"| `{name[-90:]}` | {spent / len(batches):.3f} |")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Profile our training step.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="a workload that training_speed.py prepared")
    add("--steps", type=int, default=3, help="how many to sum up")
    add("--whole-logits", action="store_true", help="the step of a model compiled with a loss")
    add("--operations", type=int, default=0, help="how many of the slowest to list too")
    return parser.parse_args()


def read_operations(folder: Path) -> Iterator[tuple[str, float]]:
    """Yields each operation as `name:type`, and the seconds that it took in all."""
    spent: collections.Counter[str] = collections.Counter()
    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
        for plane in space.planes:
            names = {key: value.name for key, value in plane.event_metadata.items()}
            for line in plane.lines:
                for event in line.events:
                    name = names[event.metadata_id]
                    # Not what calls others: the step as a whole, and functions.
                    if re.fullmatch(r"[\w/.]+:\w+", name) and not name.endswith("Call"):
                        spent[name] += event.duration_ps / 1e12
    yield from spent.items()


def kind_of(operation: str) -> str:
    """Says what an operation is part of."""
    for pattern, kind in KINDS:
        if re.search(pattern, operation):
            return kind
    return "the rest"


if __name__ == "__main__":
    sys.exit(main())
