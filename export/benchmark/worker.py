"""Serves one engine over stdin and stdout.

    python -m export.benchmark.worker ENGINE FOLDER BEAM OPTIONS

A request is a line of JSON, the arguments of `measure`; a reply is a line of JSON behind `@@`.
This is the process that is measured: it imports the engine's own packages, and never ktransformer,
but for the engine that measures ktransformer's own, which does without TensorFlow.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from export.benchmark.engine_server import serve
from export.benchmark.meter import CpuMeter, memory
from export.benchmark.workload import Ids, Workload

OF_THE_PRODUCT = "lite_engine"


def main() -> int:
    """Serves the engine that the arguments name."""
    name, folder, beam, options = sys.argv[1:]
    work = Workload.load(Path(folder))
    return serve(
        f"export.benchmark.engines.{name}",
        lambda module: module.Engine(work, int(beam), **json.loads(options)),
        lambda engine, **request: measure(engine, work, **request),
        without="tensorflow" if name == OF_THE_PRODUCT else "ktransformer",
    )


def measure(
    engine: Any,
    work: Workload,
    *,
    batch: int,
    count: int,
    together: bool,
    first_only: bool = False,
    least_seconds: float = 0.0,
    with_ids: bool = False,
) -> dict[str, Any]:
    """Decodes a cell's sentences, again and again where they take less than `least_seconds`.

    Args:
        engine: What decodes.
        work: What is decoded.
        batch: Sentences in a batch.
        count: Sentences in all.
        together: Whether the engine is given all batches at once, to keep several in flight.
        first_only: Decode only the first batch: what a first call takes.
        least_seconds: A sample that is shorter is too short for the meter of foreign work.
        with_ids: Whether the reply holds what was decoded.

    Returns:
        What `summarise` in `sampling.py` reads, and the ids.
    """
    batches = work.batches(batch, count)[: 1 if first_only else None]
    latencies: list[float] = []
    passes, found = 0, []
    with CpuMeter() as meter:
        start = time.perf_counter()
        while passes == 0 or time.perf_counter() - start < least_seconds:
            found = _decode(engine, batches, together, latencies)
            passes += 1
    latencies.sort()
    return {
        "seconds": meter.seconds / passes,
        "own_cores": meter.own_cores,
        "foreign_cores": meter.foreign_cores,
        "tokens": sum(map(len, found)),
        "median_latency": latencies[len(latencies) // 2] if latencies else None,
        "ids": found if with_ids else None,
        **memory(),
    }


def _decode(
    engine: Any, batches: list[list[Ids]], together: bool, latencies: list[float]
) -> list[Ids]:
    """Decodes all batches once; notes what each took, unless they ran together."""
    if together:
        found: list[Ids] = engine.decode_all(batches)
        return found
    found = []
    for batch in batches:
        start = time.perf_counter()
        found += engine.decode(batch)
        latencies.append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    sys.exit(main())
