"""The pages of a file that an interpreter maps, and how they are given back."""

import ctypes
import os
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

MAPPING = threading.RLock()
"""Held by whoever maps a .tflite for a moment, and while an interpreter is opened: so what is new
among the mappings then is the interpreter's."""

Range = tuple[int, int]
"""The first address, and the number of bytes."""

_DONTNEED = 4  # MADV_DONTNEED of madvise(2).
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r--[ps] \S+ \S+ \d+ +(.*)")


def find_mappings(path: str | Path) -> set[Range]:
    """Returns where a file is mapped, read-only; nothing where the system does not say so."""
    if sys.platform != "linux":
        return set()
    name = os.path.realpath(path)
    found = set()
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for match in filter(None, (_LINE.match(line.rstrip("\n")) for line in maps)):
                if match[3].removesuffix(" (deleted)") == name:
                    start, end = int(match[1], 16), int(match[2], 16)
                    found.add((start, end - start))
    except OSError:
        return set()
    return found


def release_pages(mappings: Sequence[Range]) -> None:
    """Removes read-only mappings of a file from this process's resident memory.

    An interpreter maps its file and packs the weights into memory of its own when a signature is
    first run; then it hardly reads the file again. A page that it does read comes back, from the
    system's cache of files. A system that refuses keeps them.

    Args:
        mappings: Of an interpreter that is still open.
    """
    if not mappings:
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, size in mappings:
        advise(start, size, _DONTNEED)
