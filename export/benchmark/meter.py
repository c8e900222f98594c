"""Measures a piece of work: how long, on how many cores, how disturbed, in how much memory.

Linux only: it reads /proc. The standard library alone, for every environment imports it.
"""

import os
import time
from pathlib import Path
from typing import Any, Self


class CpuMeter:
    """Times a block, and says how much of the machine others used meanwhile.

    A time that was taken while other processes were busy says little about the engine, so every
    sample carries this figure and the summary leaves out those that were disturbed.

    Attributes:
        seconds: How long the block took.
        own_cores: Cores that this process used, on average.
        foreign_cores: Cores that all other processes used, on average.
    """

    seconds = own_cores = foreign_cores = 0.0

    def __enter__(self) -> Self:
        self._own, self._all = _own_seconds(), _busy_seconds()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.seconds = time.perf_counter() - self._start
        own = _own_seconds() - self._own
        self.own_cores = own / self.seconds
        self.foreign_cores = max(0.0, (_busy_seconds() - self._all - own) / self.seconds)


def _own_seconds() -> float:
    """Returns the processor time that this process has used, all threads."""
    times = os.times()
    return times.user + times.system


def _busy_seconds() -> float:
    """Returns the processor time that all processes have used since the machine started."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    # user nice system, then irq softirq steal; idle and iowait lie between them.
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")


def memory() -> dict[str, float]:
    """Returns this process's resident memory now and at its highest, in MB (2**20 bytes)."""
    fields = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.split()
    return {
        "resident_mb": int(fields["VmRSS"][0]) / 1024,
        "peak_mb": int(fields["VmHWM"][0]) / 1024,
    }
