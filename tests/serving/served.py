"""The command `serve` in a process of its own, and callers that keep asking it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.serving.running_app import ask


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def served(
    *arguments: object, port: int | None = None, announced: int | None = None
) -> Iterator[tuple[subprocess.Popen, str]]:
    """Yields the process of the command and the server's address.

    Args:
        *arguments: Those of the command.
        port: The port that is asked for; None for a free one.
        announced: The port where it is to listen; None for `port`.
    """
    port = port or free_port()
    announced = announced or port
    line = [
        sys.executable,
        "-m",
        "ktransformer",
        "serve",
        *map(str, arguments),
        "--port",
        str(port),
    ]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            errors.seek(0)
            assert ready == f"Serving on http://127.0.0.1:{announced}\n", errors.read()
            yield process, f"http://127.0.0.1:{announced}"
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
        assert process.returncode == 0


def children(process: subprocess.Popen, name: str) -> list[int]:
    """Returns the processes of a server, by what their command line begins with or has in it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if entry.name.isdecimal() and name in line and _descends(int(entry.name), process.pid):
                found.append(int(entry.name))
    return found


def _descends(number: int, ancestor: int) -> bool:
    """Tells whether a process is of the session that another one has started."""
    while number > 1:
        if number == ancestor:
            return True
        stat = Path(f"/proc/{number}/stat").read_text()
        number = int(stat.rsplit(")", 1)[1].split()[1])
    return False


class Callers:
    """Threads that keep asking for one text, and count what comes back.

    Attributes:
        counts: How often each status came; `refused` where no connection was taken, `broken`
            where one ended without an answer, `wrong` where the translation is another.
    """

    def __init__(self, address: str, count: int, text: str, expected: str) -> None:
        self.counts: Counter[object] = Counter()
        self._asked = (address, {"q": text, "source": "en", "target": "de"}, expected)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def _run(self) -> None:
        address, fields, expected = self._asked
        while not self._stop.is_set():
            try:
                answer = ask(f"{address}/translate", fields)
            except (OSError, http.client.HTTPException) as error:
                refused = isinstance(getattr(error, "reason", None), ConnectionRefusedError)
                self.counts["refused" if refused else "broken"] += 1
                time.sleep(0.05)
                continue
            right = answer.status != 200 or answer.json["translatedText"] == expected
            self.counts[answer.status if right else "wrong"] += 1

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def kill(number: int) -> None:
    os.kill(number, signal.SIGKILL)
