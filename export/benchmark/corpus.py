"""Measures `translate --ray` on a corpus: identity under kills, lines a second, memory.

    python -m export.benchmark.corpus MODEL --source FILE --work FOLDER [--lines 1000000]

Lines of the source are drawn until there are enough of them. A single process translates all of
them; so does a Ray cluster on this machine (a head without a CPU, two nodes of one CPU each) of
which a node is killed and replaced twice, at a third and at two thirds of the shards; and one and
two workers translate a tenth each. Every output is compared with the single process's, byte by
byte. Printed are the lines a second of the second half of the shards (so that no worker still opens
its model), the peaks of resident memory of the driver and of the largest worker, and the driver's
processor time. The run `check` times the driver's check of the input alone.
"""

import argparse
import dataclasses
import filecmp
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.benchmark.machine import describe
from ktransformer.corpora.formats import open_format
from ktransformer.corpora.job import Job
from ktransformer.text import read_lines

_POLL_SECONDS = 0.2
_TITLE = b"ray::run_shard"  # What Ray calls a process while it translates a shard.
RUNS = ("check", "single", "tenth", "one", "two", "killed")


@dataclasses.dataclass
class Run:
    """What was seen of a run.

    Attributes:
        seconds: How long the command took, its start included.
        rate: Lines a second in the second half of the shards.
        driver_mb: Peak of the command's resident memory, in MiB.
        worker_mb: That of the largest process of Ray that translated; 0 without Ray.
        driver_seconds: Processor time of the command.
        per_cpu: Lines for each second of processor time of the workers, in the second half; 0
            without Ray.
    """

    seconds: float = 0.0
    rate: float = 0.0
    driver_mb: float = 0.0
    worker_mb: float = 0.0
    driver_seconds: float = 0.0
    per_cpu: float = 0.0


def main() -> None:
    """Prints a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a run, a SavedModel or a .tflite")
    parser.add_argument("--source", required=True, help="texts, a line each")
    parser.add_argument("--work", required=True, type=Path, help="a folder for the files")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--shard-bytes", type=int, default=1 << 17)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    options = parser.parse_args()
    whole, tenth = make_corpora(options)
    print(describe())
    print(
        "| run | lines | seconds | lines a second | lines a worker's CPU second | driver, MiB | "
        "worker, MiB | driver, CPU s | same bytes |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in options.runs:
        source, lines = (tenth, options.lines // 10) if name in _TENTHS else (whole, options.lines)
        if name == "check":
            print(f"| check | {lines} | | {check_rate(options, source, lines):.0f} | | | | | |")
            continue
        if name in ("single", "tenth"):
            run = watch(options, name, source, lines, [])
        else:
            with cluster(1 if name == "one" else 2) as nodes:
                on_shard = nodes.kill_at_thirds if name == "killed" else ignore
                run = watch(options, name, source, lines, ["--ray", nodes.address], on_shard)
        reference = options.work / ("tenth" if name in _TENTHS else "single") / source.name
        same = filecmp.cmp(reference, options.work / name / source.name, shallow=False)
        print(
            f"| {name} | {lines} | {run.seconds:.0f} | {run.rate:.0f} | {run.per_cpu:.0f} | "
            f"{run.driver_mb:.0f} | "
            f"{run.worker_mb:.0f} | {run.driver_seconds:.1f} | {'yes' if same else 'NO'} |",
            flush=True,
        )


_TENTHS = ("tenth", "one", "two")


def make_corpora(options: argparse.Namespace) -> tuple[Path, Path]:
    """Draws the lines, unless that was done before; returns all of them and a tenth."""
    options.work.mkdir(parents=True, exist_ok=True)
    whole, tenth = (
        options.work / f"{options.lines}.txt",
        options.work / f"{options.lines // 10}.txt",
    )
    if not whole.exists():
        lines, draw = list(read_lines(options.source)), random.Random(1)
        for path, count in ((tenth, options.lines // 10), (whole, options.lines)):
            with path.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{draw.choice(lines)}\n" for _ in range(count))
    return whole, tenth


def ignore(done: int, total: int) -> None:
    """Does nothing."""


def watch(
    options: argparse.Namespace,
    name: str,
    source: Path,
    lines: int,
    more: list[str],
    on_shard: Callable[[int, int], object] = ignore,
) -> Run:
    """Runs the command and watches its parts and its processes until it ends."""
    output = options.work / name
    line = [sys.executable, "-m", "ktransformer", "translate", options.model, *more]
    line += ["--input", str(source), "--output", str(output)]
    line += ["--shard-bytes", str(options.shard_bytes)]
    total = -(-source.stat().st_size // options.shard_bytes)
    shutil.rmtree(output, ignore_errors=True)  # Of an earlier run, which would be taken for ours.
    run, seen = Run(), [(time.monotonic(), 0, 0.0)]
    cpu: dict[int, float] = {}  # Of each worker, as it was last seen.
    with (options.work / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(line, stderr=log)
        while process.poll() is None:
            run.driver_mb = max(run.driver_mb, peak_mb(process.pid))
            run.driver_seconds = max(run.driver_seconds, cpu_seconds(process.pid))
            for pid in translating():
                run.worker_mb = max(run.worker_mb, peak_mb(pid))
                cpu[pid] = max(cpu.get(pid, 0.0), cpu_seconds(pid))
            done = count_parts(output)
            if done > seen[-1][1]:
                seen.append((time.monotonic(), done, sum(cpu.values())))
                on_shard(done, total)
            time.sleep(_POLL_SECONDS)
    run.seconds = time.monotonic() - seen[0][0]
    if process.returncode:
        sys.exit((options.work / f"{name}.log").read_text(encoding="utf-8"))
    half = [sample for sample in seen if sample[1] >= total / 2]
    if len(half) > 1:
        (start, first, used), (end, last, used_at_end) = half[0], half[-1]
        run.rate = (last - first) / total * lines / (end - start)
        run.per_cpu = (last - first) / total * lines / (used_at_end - used) if cpu else 0.0
    return run


def count_parts(output: Path) -> int:
    """Returns how many shards are done of an output that is not whole."""
    # `os.walk` passes over folders that are just removed; hidden ones hold what is being written.
    walked = os.walk(output / ".translation" / "parts")
    return sum(len(files) for folder, _, files in walked if not Path(folder).name.startswith("."))


def check_rate(options: argparse.Namespace, source: Path, lines: int) -> float:
    """Returns the lines a second at which the input is checked and cut into shards."""
    reader = open_format(Job(options.model, shard_bytes=options.shard_bytes))
    start = time.perf_counter()
    checked = sum(shard.count for shard in reader.survey(str(source)))
    if checked != lines:
        sys.exit(f"{checked} of {lines} lines were checked.")
    return lines / (time.perf_counter() - start)


def translating() -> Iterator[int]:
    """Yields the processes of Ray that translate."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(_TITLE):
                yield int(path.parent.name)
        except OSError:
            continue  # It has just ended.


def peak_mb(pid: int) -> float:
    """Returns the peak of a process's resident memory in MiB; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else 0.0


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of a process; 0 for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Nodes:
    """The nodes of a Ray cluster on this machine, each with one CPU.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        self._store = {"object_store_memory": 80 << 20}
        head = {"num_cpus": 0, "include_dashboard": False, **self._store}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = [self._add() for _ in range(count)]
        self._killed = 0

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=1, **self._store)

    def kill_at_thirds(self, done: int, total: int) -> None:
        """Kills a node when a third is done, and one when two thirds are; adds another for each."""
        if self._killed < 2 and done >= (self._killed + 1) * total / 3:
            self._killed += 1
            print(f"killing a node at {done} of {total} shards", file=sys.stderr, flush=True)
            self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)
            self._nodes.append(self._add())

    def shutdown(self) -> None:
        """Ends all nodes."""
        self._cluster.shutdown()


@contextmanager
def cluster(count: int) -> Iterator[Nodes]:
    """Runs a cluster for the block."""
    nodes = Nodes(count)
    try:
        yield nodes
    finally:
        nodes.shutdown()


if __name__ == "__main__":
    main()
