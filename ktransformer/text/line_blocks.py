"""Reads lines as they arrive from a pipe, a terminal or a file."""

import os
import select
from collections.abc import Iterator

from ktransformer.errors import InputError
from ktransformer.text.corpus import decode_line

_READ_BYTES = 1 << 16
# More bytes than a person types come from a program: wait this long for the rest of its output.
_BULK_BYTES, _BULK_SECONDS = 1 << 12, 0.02


def read_blocks(
    descriptor: int, name: str, *, max_lines: int = 10_000, max_bytes: int = 1 << 22
) -> Iterator[list[str]]:
    """Yields blocks of the complete lines that a stream has delivered so far.

    A line never waits for a later one. Files, and programs that write faster than blocks are
    consumed, fill their blocks. Memory grows with the longest line, not with the stream.

    Args:
        descriptor: File descriptor to read from.
        name: The stream's name in errors.
        max_lines: Lines at which a block ends. It may hold more, from the last read of 64 KiB.
        max_bytes: Bytes at which a block ends, likewise.

    Raises:
        InputError: A line is not UTF-8, or the stream cannot be read; the lines before it have
            been yielded.
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


def read_byte_blocks(descriptor: int, name: str, *, max_bytes: int = 1 << 18) -> Iterator[bytes]:
    """Yields a stream's bytes in blocks that end behind a line end, as it delivers them.

    Args:
        descriptor: File descriptor to read from.
        name: The stream's name in errors.
        max_bytes: Bytes at which a block ends; a longer line is held whole.

    Raises:
        InputError: The stream cannot be read; what came before has been yielded.
    """
    held = bytearray()
    searched = 0  # No line end lies before.
    while data := _read(descriptor, name):
        held += data
        end = held.rfind(b"\n", searched) + 1
        full = len(held) >= max_bytes
        if end and (full or not _has_more(descriptor, _BULK_SECONDS)):
            yield bytes(held[:end])
            del held[:end]
            searched = len(held)
        elif not end:
            searched = len(held)
    if held:
        yield bytes(held)


def _read_whole_lines(descriptor: int, name: str) -> Iterator[list[bytes]]:
    """Yields the lines, possibly none, that each read completes."""
    rest = bytearray()  # The start of an incomplete line; mutable, because it may be long.
    while data := _read(descriptor, name):
        end = data.rfind(b"\n")
        if end < 0:
            rest += data
            yield []
            continue
        yield (bytes(rest) + data[:end]).split(b"\n")
        rest = bytearray(data[end + 1 :])
    if rest:  # A last line without a line end.
        yield [bytes(rest)]


def _read(descriptor: int, name: str) -> bytes:
    """Waits for bytes and returns them; `b""` at the end of the stream."""
    try:
        select.select([descriptor], [], [])  # Reading a non-blocking descriptor would raise.
        return os.read(descriptor, _READ_BYTES)
    except OSError as error:
        raise InputError(f"Cannot read {name}: {error.strerror}.") from error


def _has_more(descriptor: int, seconds: float) -> bool:
    """Returns whether bytes, or the end of the stream, arrive within some seconds."""
    return bool(select.select([descriptor], [], [], seconds)[0])
