"""Makes the C library keep freed memory for reuse."""

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
    """Makes the C library's allocator keep freed memory instead of returning it to the kernel.

    Every training step frees hundreds of megabytes and allocates them again. By default, glibc's
    malloc returns most of them to the kernel, which clears each page when it is touched next: half
    of a small model's step in training/benchmark. In exchange, the process keeps its peak memory.
    The setting is process-wide, so only the `train` command makes it unasked; call this before the
    first computation when training from Python.

    Returns:
        Whether the setting is active. False if the C library is not glibc, or if the environment
        sets one of mallopt(3)'s variables (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_MAX_`,
        `MALLOC_ARENA_MAX`), which then stay as they are.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OPTIONS):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    accepted = [libc.mallopt(option, value) for option, value in _OPTIONS.values()]
    return all(accepted)
