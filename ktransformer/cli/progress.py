"""Progress and messages of a command, on stderr."""

import logging
import sys
import time
from collections.abc import Iterable
from typing import TextIO

from ktransformer.errors import printable

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 10.0


class _PrintableFormatter(logging.Formatter):
    """Escapes control characters, which names of files may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def log_to_stderr() -> None:
    """Logs this package's messages, and the warnings of others, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("ktransformer").setLevel(logging.INFO)


class Progress:
    """Reports how many lines are translated: in place on a terminal, else a line now and then.

    Skips a report that would repeat the last one.

    Args:
        stream: The stream to report to.
        total_bytes: The bytes of all lines; None if unknown.
        whole: What the total is called.
        interval_seconds: The least time between two reports; None for 0.2 on a terminal, else 10.
    """

    def __init__(
        self,
        stream: TextIO,
        total_bytes: int | None = None,
        *,
        whole: str = "the file",
        interval_seconds: float | None = None,
    ) -> None:
        self.stream = stream
        self.whole = whole
        self.total_bytes = total_bytes
        self.in_place = stream.isatty()
        default = _TERMINAL_SECONDS if self.in_place else _LOG_SECONDS
        self.interval_seconds = default if interval_seconds is None else interval_seconds
        self.lines = self.bytes = 0
        self._last_report: tuple[int, str] | None = None
        self._began = self._reported = time.monotonic()

    def add(self, lines: Iterable[str]) -> None:
        """Counts lines, each with its line break, and reports them when it is time."""
        sizes = [len(line.encode()) + 1 for line in lines]
        self.count(len(sizes), sum(sizes))

    def count(self, lines: int, size: int) -> None:
        """Counts lines, of a size in the total's unit, and reports when it is time."""
        self.lines += lines
        self.bytes += size
        if time.monotonic() - self._reported >= self.interval_seconds:
            self._reported = time.monotonic()
            self._report(self._share())

    def finish(self) -> None:
        """Reports the total unless the last report did; on a terminal, ends the line."""
        self._report("")
        if self.in_place:
            print(file=self.stream, flush=True)

    def _report(self, share: str) -> None:
        if (self.lines, share) == self._last_report:
            return
        self._last_report = self.lines, share
        seconds = max(time.monotonic() - self._began, 1e-9)
        text = f"{self.lines} lines translated, {self.lines / seconds:.1f} a second{share}."
        if self.in_place:  # Overwrites the last report.
            print(f"\r\x1b[K{text}", end="", file=self.stream, flush=True)
        else:
            print(text, file=self.stream, flush=True)

    def _share(self) -> str:
        if not self.total_bytes or self.bytes >= self.total_bytes:
            return ""
        return f", {self.bytes / self.total_bytes:.1%} of {self.whole}"
