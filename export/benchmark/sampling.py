"""Lets engines take turns, and sums up what their samples took."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from export.benchmark.processes import EngineProcess

PAUSE_SECONDS = 0.2  # Threads of OpenMP go on spinning for so long after their work.


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: Samples of an engine in a cell.
        seconds: An engine that would take longer for them gets fewer, but at least two.
        max_foreign: A sample during which others used more cores than this is repeated.
        tries: How often a sample is taken at most.
    """

    rounds: int
    seconds: float
    max_foreign: float
    tries: int = 2


def take_samples(
    running: Sequence[EngineProcess],
    sample: Callable[[EngineProcess], dict[str, Any]],
    effort: Effort,
) -> dict[EngineProcess, list[dict[str, Any]]]:
    """Lets the engines take turns, forward and backward; returns each one's samples.

    So a busy moment does not always hit the same engine.

    Args:
        running: The engines.
        sample: Lets an engine work once; what it returns has at least `seconds` and
            `foreign_cores`.
        effort: How much is measured.
    """
    samples: dict[EngineProcess, list[dict[str, Any]]] = {engine: [] for engine in running}
    rounds = dict.fromkeys(running, effort.rounds)
    for number in range(effort.rounds):
        for engine in running if number % 2 == 0 else running[::-1]:
            if number >= rounds[engine]:
                continue
            taken = []
            for _ in range(effort.tries):
                time.sleep(PAUSE_SECONDS)
                taken.append(sample(engine))
                if taken[-1]["foreign_cores"] <= effort.max_foreign:
                    break
            samples[engine] += taken
            if number == 0:
                affordable = int(effort.seconds / taken[0]["seconds"])
                rounds[engine] = min(effort.rounds, max(2, affordable))
    return samples


def summarise(samples: Sequence[dict[str, Any]], max_foreign: float) -> dict[str, Any]:
    """Sums up an engine's samples of one cell.

    The medians are over the clean ones. Where there are fewer than two, they are over the least
    disturbed third: `clean` against `samples` says that such a row is not to be trusted.
    """
    clean = [sample for sample in samples if sample["foreign_cores"] <= max_foreign]
    count = len(clean)
    if count < 2:
        by_disturbance = sorted(samples, key=lambda sample: sample["foreign_cores"])
        clean = by_disturbance[: max(min(2, len(samples)), len(samples) // 3)]
    seconds = [sample["seconds"] for sample in clean]
    return {
        "tokens_per_second": clean[0]["tokens"] / statistics.median(seconds),
        "tokens": clean[0]["tokens"],
        "seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "own_cores": statistics.median(sample["own_cores"] for sample in clean),
        "foreign_cores": max(sample["foreign_cores"] for sample in clean),
        "resident_mb": samples[-1]["resident_mb"],
        "peak_mb": samples[-1]["peak_mb"],
        **_median_latency(clean),
        "clean": count,
        "samples": len(samples),
    }


def _median_latency(samples: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    latencies = [sample["median_latency"] for sample in samples if sample.get("median_latency")]
    return {"median_latency": statistics.median(latencies) if latencies else None}
