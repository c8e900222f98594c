"""Counts what callers get while parts of a server are killed, and prints a table.

    python -m tests.serving.count_faults MODEL.tflite TEXT [--callers 16] [--seconds 10]

Each row is a server of two replicas with callers that keep asking: for some seconds before the
fault, and after it until a request is answered and some seconds more.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


FAULTS: dict[str, Callable[[subprocess.Popen], object]] = {
    "nothing": lambda process: None,
    "SIGKILL of one of two replicas": lambda process: kill_all(process, "ServeReplica", 1),
    "SIGKILL of both replicas": lambda process: kill_all(process, "ServeReplica"),
    "SIGKILL of the proxy": lambda process: kill_all(process, "bin/haproxy"),
    "SIGKILL of Serve's controller": lambda process: kill_all(process, "ServeController"),
    "SIGTERM of the command": lambda process: process.send_signal(signal.SIGTERM),
}


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
        served(*arguments) as (process, address),
        Callers(address, options.callers, options.text, expected) as callers,
    ):
        time.sleep(options.seconds)
        before = callers.counts.total()
        started = time.monotonic()
        FAULTS[name](process)
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
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME")
    options = parser.parse_args()
    expected = load_engine(options.model).translate_document([options.text])[0].text
    print("| fault | requests before | answered with 200 | others | seconds until an answer |")
    print("| --- | --- | --- | --- | --- |")
    for name in options.faults:
        print(count(name, options, expected), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
