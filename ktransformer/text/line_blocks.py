"""Lines of a stream as they come: a pipe, a terminal or a file."""

import os
import select
from collections.abc import Iterator

from ktransformer.errors import InputError
from ktransformer.text.corpus import decode_line

_READ_BYTES = 1 << 16
# More than a person types: whoever writes that much at once is worth waiting for, this long.
_BULK_BYTES, _BULK_SECONDS = 1 << 12, 0.02


def read_blocks(
    descriptor: int, name: str, *, max_lines: int = 10_000, max_bytes: int = 1 << 22
) -> Iterator[list[str]]:
    """Reads a stream in blocks, each of the whole lines that are there by then.

    A line that has come does not wait for one that has not. A file fills its blocks, and so does
    whoever writes faster than they are taken. What is held does not grow with the stream, only
    with its longest line.

    Args:
        descriptor: What to read from.
        name: Its name, for errors.
        max_lines: Lines at which a block ends; the last read, of 64 KiB, may bring more.
        max_bytes: Bytes at which it ends, likewise.

    Raises:
        InputError: A line is not UTF-8, or the stream cannot be read; the lines before have been
            yielded.
    """
    block: list[str] = []
    number = held = 0
    for lines in _read_whole_lines(descriptor, name):
        for line in lines:
            number += 1
            held += len(line) + 1
            try:
                block.append(decode_line(line, name, number))
            except InputError:
                if block:
                    yield block
                raise
        full = len(block) >= max_lines or held >= max_bytes
        seconds = _BULK_SECONDS if held > _BULK_BYTES else 0
        if block and (full or not _has_more(descriptor, seconds)):
            yield block
            block, held = [], 0
    if block:
        yield block


def _read_whole_lines(descriptor: int, name: str) -> Iterator[list[bytes]]:
    """Yields the lines, perhaps none, that each read completes."""
    rest = bytearray()  # A line whose end has not come; appended to, for it may be long.
    while data := _read(descriptor, name):
        end = data.rfind(b"\n")
        if end < 0:
            rest += data
            yield []
            continue
        yield (bytes(rest) + data[:end]).split(b"\n")
        rest = bytearray(data[end + 1 :])
    if rest:  # The last line has no end.
        yield [bytes(rest)]


def _read(descriptor: int, name: str) -> bytes:
    """Waits for bytes and reads them; none at the end."""
    try:
        select.select([descriptor], [], [])  # One that does not block would raise.
        return os.read(descriptor, _READ_BYTES)
    except OSError as error:
        raise InputError(f"Cannot read {name}: {error.strerror}.") from error


def _has_more(descriptor: int, seconds: float) -> bool:
    """Tells whether there is more to read, or the end, after at most so many seconds."""
    return bool(select.select([descriptor], [], [], seconds)[0])
