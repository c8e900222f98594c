"""The process of one engine of the benchmark of training.

    python -m training.benchmark.training_worker ENGINE FOLDER OPTIONS

ENGINE is a module beside this file, FOLDER a workload, OPTIONS the engine's, as JSON. A request
names an operation: `train` fits all batches once, `multiply` measures a matrix product.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from export.benchmark.engine_server import serve
from export.benchmark.meter import CpuMeter, memory
from training.benchmark.training_workload import TrainingWorkload

PRODUCT_SIZE, PRODUCTS = 2048, 7


def main() -> int:
    """Serves the engine that the arguments name."""
    name, folder, options = sys.argv[1:]
    work = TrainingWorkload.load(Path(folder))
    operations = {"train": train, "multiply": multiply}
    return serve(
        f"training.benchmark.engine_{name}",
        lambda module: module.Engine(work, **json.loads(options)),
        lambda engine, operation: operations[operation](engine, work),
    )


def train(engine: Any, work: TrainingWorkload) -> dict[str, Any]:
    """Fits all batches once; the loss is that of the last, or their mean, as the engine has it."""
    with CpuMeter() as meter:
        loss = engine.fit(work.batches)
    return {
        "seconds": meter.seconds,
        "own_cores": meter.own_cores,
        "foreign_cores": meter.foreign_cores,
        "tokens": work.tokens,
        "loss": loss,
        **memory(),
    }


def multiply(engine: Any, work: TrainingWorkload) -> dict[str, Any]:
    """Measures a product of two square matrices: floating-point operations a second, median."""
    seconds = []
    product = engine.product(PRODUCT_SIZE)
    product()
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return {"operations_per_second": 2 * PRODUCT_SIZE**3 / statistics.median(seconds)}


if __name__ == "__main__":
    sys.exit(main())
