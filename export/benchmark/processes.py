"""Runs engines as processes that answer requests; `engine_server.py` is their side of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
"""The repository, from which engines are started: `python -m` finds them there."""


class EngineFailureError(RuntimeError):
    """An engine could not be started, or ended; the message says why and where its log is."""


class EngineProcess:
    """An engine in a process of its own.

    Args:
        name: Its name in the registry.
        command: What to run.
        threads: How many the process may have.
        logs: The folder for what it writes to stderr.

    Attributes:
        name: Its name in the registry.
        started: What it said when it was ready: load time, memory, versions.
    """

    def __init__(self, name: str, command: Sequence[str], *, threads: int, logs: Path) -> None:
        self.name = name
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "BENCHMARK_THREADS": str(threads)},
                text=True,
            )
        self.started = self._reply()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the reply."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended; the reply says so.
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("@@"):
                reply: dict[str, Any] = json.loads(line[2:])
                if "error" in reply:
                    raise EngineFailureError(f"{self.name}: {reply['error']} ({self._log})")
                return reply
        raise EngineFailureError(f"{self.name} ended; {self._log} may say why.")

    def close(self) -> None:
        """Ends the process."""
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def started_engines(
    commands: Mapping[str, Sequence[str]], threads: Mapping[str, int], logs: Path
) -> Iterator[list[EngineProcess]]:
    """Starts engines one after the other, and ends them all.

    Args:
        commands: What to run, by the engine's name.
        threads: How many each may have.
        logs: The folder for what they write to stderr.

    Yields:
        Those that started; of the others the reason is printed to stderr.
    """
    with ExitStack() as stack:
        running = []
        for name, command in commands.items():
            try:
                engine = EngineProcess(name, command, threads=threads[name], logs=logs)
            except (EngineFailureError, OSError) as error:
                print(f"  {error}", file=sys.stderr, flush=True)
                continue
            stack.callback(engine.close)
            running.append(engine)
        yield running
