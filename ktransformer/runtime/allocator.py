"""Keeps memory that was freed in the process, for what is computed next."""

import ctypes
import os
import sys

# The parameters of mallopt(3), and the variables by which a user sets them.
_OPTIONS = {
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_ARENA_MAX": (-8, 1),
}


def keep_freed_memory() -> bool:
    """Tells the C library's allocator to keep what is freed, rather than hand it back.

    Every training step frees hundreds of megabytes and asks for them again. Left alone, glibc's
    malloc gives most of it back to the kernel, which clears each page again when it is next
    touched: where it was measured, half of a small model's step (training/benchmark). The price is
    that the process holds on to its peak. It holds for the whole process, so the library does not
    do it unasked: `train` does, and who trains from Python may, before anything is computed.

    Returns:
        Whether it is so now. Not where the C library is not glibc; nor where the environment says
        otherwise (mallopt(3): `MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_MAX_`, `MALLOC_ARENA_MAX`),
        which is left as it is.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OPTIONS):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    accepted = [libc.mallopt(option, value) for option, value in _OPTIONS.values()]
    return all(accepted)
