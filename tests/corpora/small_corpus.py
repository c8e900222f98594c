"""Small corpora of number words, and the command that translates them, in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.small_run import number_pairs


def number_lines(count: int, seed: int = 7) -> list[str]:
    """Lines such as "four zero two"."""
    return [source for source, _ in number_pairs(count, seed)]


def write_lines(path: Path, lines: list[str]) -> Path:
    """Writes lines, each with its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def corpus_command(model: Path, inputs: list[Path], output: Path, *more: object) -> list[str]:
    """The command line."""
    files = ["--input", *map(str, inputs), "--output", str(output)]
    line = [sys.executable, "-m", "ktransformer", "translate", str(model)]
    return [*line, *files, *map(str, more)]


def files_of(output: Path) -> dict[str, bytes]:
    """The content of each file that a user sees in a folder."""
    return {path.name: path.read_bytes() for path in sorted(output.iterdir()) if path.is_file()}


def parts_of(output: Path) -> dict[Path, int]:
    """The parts in a folder, with their times of writing."""
    found: dict[Path, int] = {}
    for path in (output / ".translation" / "parts").glob("*/*"):
        if path.is_file():
            found[path] = path.stat().st_mtime_ns
    return found


def wait_for(happened: Callable[[], object], process: subprocess.Popen, seconds: float = 120):
    """Waits until something has happened while a process runs."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "the process ended before"
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def kill(process: subprocess.Popen) -> None:
    """Kills a process as a crash would."""
    process.kill()
    assert process.wait() == -signal.SIGKILL
