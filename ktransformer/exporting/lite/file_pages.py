"""Gives back the pages of a file that are mapped and no longer read."""

import ctypes
import os
import re
import sys
from pathlib import Path

_DONTNEED = 4  # MADV_DONTNEED of madvise(2).
_RANGE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r--[ps] \S+ \S+ (\d+) +(.*)")


def release_file_pages(path: str | Path) -> int:
    """Removes a file's read-only mappings from this process's resident memory.

    An interpreter maps its file and packs the weights into memory of its own when a signature is
    first run; then it hardly reads the file again. A page that it does read comes back, from the
    system's cache of files.

    Args:
        path: The file.

    Returns:
        The bytes of the mappings; 0 where the system is not Linux.
    """
    if sys.platform != "linux":
        return 0
    node, name = os.stat(path).st_ino, os.path.realpath(path)
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    released = 0
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            found = _RANGE.match(line.rstrip("\n"))
            if found and int(found[3]) == node and found[4] == name:
                start, end = int(found[1], 16), int(found[2], 16)
                if advise(start, end - start, _DONTNEED):
                    raise OSError(ctypes.get_errno(), "madvise", name)
                released += end - start
    return released
