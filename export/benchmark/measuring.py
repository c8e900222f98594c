"""Measures cells: lets every engine decode the same sentences, in turns."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.benchmark.processes import EngineFailureError, EngineProcess, started_engines
from export.benchmark.registry import BASE, ENGINES, EngineSpec
from export.benchmark.sampling import Effort, summarise, take_samples
from export.benchmark.workload import Ids

LEAST_SECONDS = 0.3  # A shorter sample is too short for the meter of foreign work.


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is measured at once: one model, one beam, one batch size.

    Attributes:
        model: `T`, `B` or `trained`.
        beam: Hypotheses, 1 for greedy search.
        batch: Sentences in a batch.
        count: Sentences in a pass.
    """

    model: str
    beam: int
    batch: int
    count: int

    def __str__(self) -> str:
        search = "greedy" if self.beam == 1 else f"beam {self.beam}"
        return f"{search} batch {self.batch}"


@contextmanager
def engines(
    specs: dict[str, EngineSpec], folder: Path, beam: int, *, peers: Path, logs: Path
) -> Iterator[list[EngineProcess]]:
    """Starts engines on a model, and ends them all; yields those that started."""
    commands = {
        name: [str(spec.python(peers)), *spec.arguments(folder, beam)]
        for name, spec in specs.items()
    }
    threads = {name: spec.threads for name, spec in specs.items()}
    with started_engines(commands, threads, logs) as running:
        yield running


def decode(engine: EngineProcess, cell: Cell, **options: Any) -> dict[str, Any]:
    """Lets an engine decode a cell's sentences; see `worker.measure`."""
    together = ENGINES[engine.name].together
    return engine.ask(batch=cell.batch, count=cell.count, together=together, **options)


def measure_cell(
    running: Sequence[EngineProcess], cell: Cell, effort: Effort
) -> list[dict[str, Any]]:
    """Measures a cell with all engines that have a part in it.

    Each decodes the first batch (`first_call_seconds`: compiling included), then everything once,
    which is not counted. Then rounds follow, forward and backward, so that a busy moment does not
    always hit the same engine.

    Returns:
        A row for each engine that did not fail.
    """
    rows, firsts, ids = {}, {}, {}
    for engine in running:
        try:
            firsts[engine] = decode(engine, cell, first_only=True)["seconds"]
            ids[engine] = decode(engine, cell, with_ids=True)["ids"]
        except EngineFailureError as error:
            print(f"  {error}", file=sys.stderr, flush=True)
    samples = take_samples(
        list(ids), lambda engine: decode(engine, cell, least_seconds=LEAST_SECONDS), effort
    )
    base = next((found for engine, found in ids.items() if engine.name == BASE), None)
    for engine, taken in samples.items():
        rows[engine.name] = {
            "engine": engine.name,
            **dataclasses.asdict(cell),
            **summarise(taken, effort.max_foreign),
            "import_seconds": engine.started["import_seconds"],
            "load_seconds": engine.started["load_seconds"],
            "first_call_seconds": firsts[engine],
            "identical": None if base is None else identical(ids[engine], base),
        }
    return list(rows.values())


def identical(found: Sequence[Ids], base: Sequence[Ids]) -> float:
    """Returns the share of sentences that are the same, the last token aside.

    At the limit ours is the end token, theirs may be any.
    """
    pairs = list(zip(found, base, strict=True))
    return sum(len(a) == len(b) and a[:-1] == b[:-1] for a, b in pairs) / len(pairs)
