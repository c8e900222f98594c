"""How far a command has come, on stderr."""

import logging
import sys
import time
from collections.abc import Iterable
from typing import TextIO

from ktransformer.errors import printable

_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 10.0


class _PrintableFormatter(logging.Formatter):
    """Escapes what would steer a terminal: messages hold names of files."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def log_to_stderr() -> None:
    """Writes this package's messages, and the warnings of others, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("ktransformer").setLevel(logging.INFO)


class Progress:
    """Counts lines that are done, and says so: in place on a terminal, else a line now and then.

    Args:
        stream: Where to.
        total_bytes: How many there will be; None where that is not known.
        interval_seconds: The least time between two reports; None for what suits the stream.
    """

    def __init__(
        self,
        stream: TextIO,
        total_bytes: int | None = None,
        *,
        interval_seconds: float | None = None,
    ) -> None:
        self.stream = stream
        self.total_bytes = total_bytes
        self.in_place = stream.isatty()
        usual = _TERMINAL_SECONDS if self.in_place else _LOG_SECONDS
        self.interval_seconds = usual if interval_seconds is None else interval_seconds
        self.lines = self.bytes = 0
        self._began = self._reported = time.monotonic()

    def add(self, lines: Iterable[str]) -> None:
        """Counts lines, each with its end."""
        for line in lines:
            self.lines += 1
            self.bytes += len(line.encode()) + 1
        if time.monotonic() - self._reported >= self.interval_seconds:
            self._reported = time.monotonic()
            self._write(f"{self._describe()}{self._share()}", "" if self.in_place else "\n")

    def finish(self) -> None:
        """Says what has been done."""
        self._write(f"{self._describe()}.", "\n")

    def _describe(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        return f"{self.lines} lines translated, {self.lines / seconds:.1f} a second"

    def _share(self) -> str:
        if not self.total_bytes:
            return ""
        return f", {min(self.bytes / self.total_bytes, 1):.1%} of the file"

    def _write(self, text: str, end: str) -> None:
        begin = "\r\x1b[K" if self.in_place else ""  # Over what stands there, to the line's end.
        print(f"{begin}{text}", end=end, file=self.stream, flush=True)
