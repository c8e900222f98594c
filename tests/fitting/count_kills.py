"""Kills workers and nodes of trainings on Ray at random moments, and prints what came of it.

    python -m tests.fitting.count_kills [--workers 10] [--nodes 2] [--seed 1] [--seconds 90]

The cluster has a head without a CPU and two nodes of one CPU each, all on this machine. Two
workers train a tiny model. Each kill is a SIGKILL of one worker, or of a node with all that runs on
it, which another node replaces. It comes so many seconds after the start of the workers that it
follows: a number drawn between 0 and `--seconds`. A training that ends before its kill is followed
by another one. Every run must equal that of two processes that nobody kills, to the bit.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from tests.fitting.on_jax import assert_same_runs, finish, start
from tests.fitting.ray_workers import find_workers
from tests.small_run import number_pairs, write_pairs

_NODE_TRIES = 5
_STORE = {"object_store_memory": 80 << 20}


class Nodes:
    """A cluster of a head without a CPU and two nodes with one each."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, **_STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = [self._add() for _ in range(2)]

    def _add(self) -> Any:
        """Adds a node; Ray gives up starting one after 30 s, which a busy machine may need."""
        for _ in range(_NODE_TRIES):
            with contextlib.suppress(Exception):  # Of no kind of its own.
                return self.cluster.add_node(num_cpus=1, **_STORE)
        raise TimeoutError("No node starts on this machine.")

    def replace_one(self) -> None:
        """Kills the older node and adds another."""
        self.cluster.remove_node(self._nodes.pop(0), allow_graceful=False)
        self._nodes.append(self._add())


class Training:
    """A training by the command on the cluster.

    Attributes:
        log: What it has written to stderr, once it has ended.
    """

    def __init__(self, folder: Path, name: str, address: str, epochs: str) -> None:
        options = ("--ray", address, "--workers", "2", "--set", epochs)
        (self._driver,) = start(folder, name, *options)
        self.log = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._driver.stderr is not None
        self.log = self._driver.stderr.read()

    def runs(self) -> bool:
        return self._driver.poll() is None

    def new_workers(self, before: set[int]) -> list[int]:
        """Waits for the two workers of a new start; returns fewer where the training has ended."""
        workers: set[int] = set()
        while len(workers) < 2 and self.runs():
            time.sleep(0.2)
            workers = find_workers(os.getpid()) - before
        return sorted(workers)

    def finish(self) -> None:
        """Waits until it has ended well."""
        self._driver.wait()
        self._reader.join()
        assert self._driver.returncode == 0, self.log


def train_killed(training: Training, nodes: Nodes, kills: list[str], seconds: float, draw) -> None:
    """Takes kills from the end of the list and does them, until the training has ended."""
    seen: set[int] = set()
    while kills and (workers := training.new_workers(seen)) and training.runs():
        seen |= set(workers)
        moment = draw.uniform(0, seconds)
        end = time.monotonic() + moment
        while time.monotonic() < end and training.runs():
            time.sleep(0.05)
        if not training.runs():
            return
        if not all(map(psutil.pid_exists, workers)):  # The training is about to end.
            continue
        kind = kills.pop()
        if kind == "node":
            nodes.replace_one()
        else:
            os.kill(draw.choice(workers), signal.SIGKILL)
        print(f"a {kind}, {moment:.1f} s after the start of the workers", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Count what kills do to trainings on Ray.")
    parser.add_argument("--workers", type=int, default=10, metavar="N", help="kills of workers")
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="kills of nodes")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the moments")
    parser.add_argument("--seconds", type=float, default=90, metavar="S", help="the latest moment")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="of each training")
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    draw = random.Random(options.seed)
    kills = ["worker"] * options.workers + ["node"] * options.nodes
    draw.shuffle(kills)
    epochs = f"epochs={options.epochs}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, "text", number_pairs(120, seed=5))
        began = time.monotonic()
        finish(start(folder, "whole", "--set", epochs, processes=2))
        print(f"uninterrupted: {time.monotonic() - began:.1f} s", flush=True)
        nodes = Nodes()
        resumed: list[int] = []
        trainings = 0
        try:
            while kills:
                trainings += 1
                run = f"ray-{trainings}"
                training = Training(folder, run, nodes.cluster.address, epochs)
                train_killed(training, nodes, kills, options.seconds, draw)
                training.finish()
                assert_same_runs(folder / "whole", folder / run)
                resumed += map(int, re.findall(r"Going on after update (\d+)", training.log))
                print(f"training {trainings} ended, equal to the uninterrupted one", flush=True)
        finally:
            nodes.cluster.shutdown()
    print(
        "| workers killed | nodes killed | trainings | equal to the bit | went on after updates |"
    )
    print("| --- | --- | --- | --- | --- |")
    told = ", ".join(map(str, resumed)) or "none"
    print(f"| {options.workers} | {options.nodes} | {trainings} | {trainings} | {told} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
