"""Times calls against each other."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any


def medians(
    calls: dict[str, Callable[[], Any]], *, rounds: int, least_seconds: float = 0.01
) -> dict[str, float]:
    """Measures how long each call takes, in turns, so that a busy moment hits all of them.

    Args:
        calls: What to time; each returns when it is done. It has run once before it is timed.
        rounds: How often each is timed; the median counts.
        least_seconds: A short call is repeated for at least so long each time.

    Returns:
        Seconds a call.
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
