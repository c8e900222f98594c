"""Counts what callers get while parts of a server are killed, and prints a table.

    python -m tests.serving.count_faults MODEL.tflite TEXT [--callers 16] [--seconds 10]
        [--disk FOLDER]

Each row is a server of two replicas with callers that keep asking: for some seconds before the
fault, and after it until a request is answered and some seconds more. The node that is killed is
one of two of a cluster, with one of the replicas. FOLDER is a small file system: Ray's files are
there, and what is left of it is filled.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ktransformer.engines import load_engine
from tests.serving.running_app import ask
from tests.serving.served import Callers, children, kill, served


def kill_all(process: subprocess.Popen, name: str, count: int | None = None) -> None:
    """Kills the first processes of a server that have such a name."""
    found = children(process, name)
    assert found, name
    for number in found[:count]:
        kill(number)


def fill(folder: Path) -> None:
    """Fills a file system to the last byte."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


NODE, DISK = "SIGKILL of one of two nodes", "a full disk"
FAULTS: dict[str, Callable[[subprocess.Popen], object]] = {
    "nothing": lambda process: None,
    "SIGKILL of one of two replicas": lambda process: kill_all(process, "ServeReplica", 1),
    "SIGKILL of both replicas": lambda process: kill_all(process, "ServeReplica"),
    "SIGKILL of the proxy": lambda process: kill_all(process, "bin/haproxy"),
    "SIGKILL of Serve's controller": lambda process: kill_all(process, "ServeController"),
    "SIGTERM of the command": lambda process: process.send_signal(signal.SIGTERM),
}


@contextlib.contextmanager
def prepared(
    name: str, options: argparse.Namespace
) -> Iterator[tuple[list[object], Callable[[subprocess.Popen], object]]]:
    """Yields further arguments of the server, and what does the fault."""
    if name == DISK:
        os.environ["RAY_TMPDIR"] = str(options.disk)
        yield [], lambda process: fill(options.disk)
        (options.disk / "filler").unlink()
    elif name == NODE:
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        node = cluster.add_node(num_cpus=1)
        try:
            yield (
                ["--ray", cluster.address],
                lambda process: cluster.remove_node(node, allow_graceful=False),
            )
        finally:
            cluster.shutdown()
    else:
        yield [], FAULTS[name]


def answers(address: str, text: str) -> bool:
    """Tells whether the server answers now."""
    try:
        return (
            ask(f"{address}/translate", {"q": text, "source": "en", "target": "de"}).status == 200
        )
    except OSError:
        return False


def count(name: str, options: argparse.Namespace, expected: str) -> str:
    """Returns a row of the table."""
    arguments = (f"en-de={options.model}", "--replicas", 2, "--threads", 1)
    with (
        prepared(name, options) as (more, fault),
        served(*arguments, *more) as (process, address),
        Callers(address, options.callers, options.text, expected) as callers,
    ):
        time.sleep(options.seconds)
        before = callers.counts.total()
        started = time.monotonic()
        fault(process)
        if name.startswith("SIGTERM"):
            process.wait(120)
        else:
            time.sleep(0.2)
            while not answers(address, options.text):
                time.sleep(0.05)
        back = time.monotonic() - started
        time.sleep(0 if process.poll() is not None else options.seconds)
    others = {key: value for key, value in callers.counts.items() if key != 200}
    told = ", ".join(f"{key}: {value}" for key, value in others.items()) or "none"
    return f"| {name} | {before} | {callers.counts[200]} | {told} | {back:.1f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Count what callers get during faults.")
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("text", metavar="TEXT")
    parser.add_argument("--callers", type=int, default=16, metavar="N")
    parser.add_argument("--seconds", type=float, default=10, metavar="S")
    parser.add_argument("--disk", type=Path, metavar="FOLDER")
    names = [*FAULTS, NODE, DISK]
    parser.add_argument("--faults", nargs="+", choices=names, default=names, metavar="NAME")
    options = parser.parse_args()
    if options.disk is None:
        options.faults = [name for name in options.faults if name != DISK]
    expected = load_engine(options.model).translate_document([options.text])[0].text
    print("| fault | requests before | answered with 200 | others | seconds until an answer |")
    print("| --- | --- | --- | --- | --- |")
    for name in options.faults:
        print(count(name, options, expected), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
