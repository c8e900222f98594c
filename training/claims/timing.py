"""Interleaved timing of several calls."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any


def medians(
    calls: dict[str, Callable[[], Any]], *, rounds: int, least_seconds: float = 0.01
) -> dict[str, float]:
    """Measures the median time of each call, interleaved, so that a busy moment slows all of them.

    Args:
        calls: Blocking calls by name. Each runs once before it is timed.
        rounds: Timings of each call; the result is their median.
        least_seconds: Minimum duration of a timing; shorter calls are repeated.

    Returns:
        Seconds per call, by name.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, math.ceil(least_seconds / _seconds(call, 1)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(_seconds(call, repeats[name]))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
