"""Says where the time of a SavedModel goes whose search XLA compiles.

    .venv/bin/python -m export.benchmark.profile_compiled runs/benchmark/T --beam 4 --batch 64

FOLDER is a model that `decoding.py` prepared. A batch is decoded once, which compiles its shape,
then `--rounds` times under TensorFlow's profiler. The table has the milliseconds of a batch by what
XLA computes; what two threads do at once counts twice, and the profiler itself slows small
operations down, so the shares count, not the sums.
"""

import argparse
import collections
import os
import re
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from export.benchmark.engines.saved_model import Engine
from export.benchmark.workload import Workload

# XLA's operations by the beginnings of their names; the first that fits counts.
KINDS = {
    "matrix products": r"(copy_)?dot|MatMul|.*_dot_",
    "top-k and sorts": r"custom-call|TopK|sort",
    "maxima and sums": r".*reduce|ynn_fusion",
    "gathers": r".*gather",
    "everything else": r".*fusion|copy|bitcast|broadcast|transpose|concatenate|pad|dynamic",
}


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    if not (options.folder / "workload.json").is_file():
        print(f"profile_compiled: {options.folder} was not prepared.", file=sys.stderr)
        return 2
    work = Workload.load(options.folder)
    engine = Engine(work, options.beam, compiled=True)
    batch = work.batches(options.batch, options.batch)[0]
    engine.decode(batch)
    with tempfile.TemporaryDirectory() as folder:
        detailed = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
        with tf.profiler.experimental.Profile(folder, detailed):
            for _ in range(options.rounds):
                engine.decode(batch)
        spent = read_kinds(next(Path(folder).rglob("*.xplane.pb")))
    total = sum(spent.values())
    for kind, milliseconds in spent.most_common():
        each = milliseconds / options.rounds
        print(f"{kind:16} {each:8.2f} ms  {milliseconds / total:6.1%}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Profile a SavedModel that XLA compiles.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="a model that decoding.py prepared")
    add("--beam", type=int, default=1, help="1 is greedy search")
    add("--batch", type=int, default=1, help="sentences in a batch")
    add("--rounds", type=int, default=5, help="batches that are profiled")
    return parser.parse_args()


def read_kinds(path: Path) -> collections.Counter[str]:
    """Adds up the milliseconds of each of `KINDS` in a profile."""
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    spent: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        names = {number: metadata.name for number, metadata in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                for kind, pattern in KINDS.items():
                    if re.match(pattern, names[event.metadata_id]):
                        spent[kind] += event.duration_ps / 1e9
                        break
    return spent


if __name__ == "__main__":
    sys.exit(main())
