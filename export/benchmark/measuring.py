"""Runs engines as processes, in turns, and sums up what they took."""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from registry import BASE, EngineSpec
from workload import Ids

WORKER = Path(__file__).with_name("worker.py")
LEAST_SECONDS = 0.3  # A shorter sample is too short for the meter of foreign work.
PAUSE_SECONDS = 0.2  # Threads of OpenMP go on spinning for so long after their work.


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


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: Samples of an engine in a cell.
        seconds: An engine that would take longer for them gets fewer, but at least two.
        max_foreign: A sample during which others used more cores than this is repeated once.
    """

    rounds: int
    seconds: float
    max_foreign: float


class EngineFailureError(RuntimeError):
    """An engine could not be started, or ended; the message says why and where its log is."""


class EngineProcess:
    """An engine in a process of its own.

    Attributes:
        name: Its name in the registry.
        spec: What it is.
        started: What it said when it was ready: load time, memory, versions.
    """

    def __init__(
        self, name: str, spec: EngineSpec, folder: Path, beam: int, *, peers: Path, logs: Path
    ) -> None:
        self.name, self.spec = name, spec
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name}.log"
        python = spec.python(peers)
        environment = {**os.environ, "BENCHMARK_THREADS": str(spec.threads)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), str(WORKER), *spec.arguments(folder, beam)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )
        self.started = self._reply()

    def measure(self, cell: Cell, **options: Any) -> dict[str, Any]:
        """Lets it decode a cell's sentences; see `worker.measure`."""
        request = {"batch": cell.batch, "count": cell.count, "together": self.spec.together}
        try:
            self._process.stdin.write(json.dumps({**request, **options}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended; the reply says so.
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("@@"):
                reply: dict[str, Any] = json.loads(line[2:])
                if "error" in reply:
                    raise EngineFailureError(f"{self.name}: {reply['error']} ({self._log})")
                return reply
        raise EngineFailureError(f"{self.name} ended; {self._log} may say why.")

    def close(self) -> None:
        """Ends the process."""
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def engines(
    specs: dict[str, EngineSpec], folder: Path, beam: int, *, peers: Path, logs: Path
) -> Iterator[list[EngineProcess]]:
    """Starts engines one after the other, and ends them all.

    Yields:
        Those that started; of the others the reason is printed to stderr.
    """
    with ExitStack() as stack:
        running = []
        for name, spec in specs.items():
            try:
                engine = EngineProcess(name, spec, folder, beam, peers=peers, logs=logs)
            except (EngineFailureError, OSError) as error:
                print(f"  {error}", file=sys.stderr, flush=True)
                continue
            stack.callback(engine.close)
            running.append(engine)
        yield running


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
            firsts[engine] = engine.measure(cell, first_only=True)["seconds"]
            ids[engine] = engine.measure(cell, with_ids=True)["ids"]
        except EngineFailureError as error:
            print(f"  {error}", file=sys.stderr, flush=True)
    samples = _take_samples(list(ids), cell, effort)
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


def _take_samples(
    running: list[EngineProcess], cell: Cell, effort: Effort
) -> dict[EngineProcess, list[dict[str, Any]]]:
    """Lets the engines take turns; returns each one's samples."""
    samples: dict[EngineProcess, list[dict[str, Any]]] = {engine: [] for engine in running}
    rounds = dict.fromkeys(running, effort.rounds)
    for number in range(effort.rounds):
        for engine in running if number % 2 == 0 else running[::-1]:
            if number >= rounds[engine]:
                continue
            taken = []
            for _ in range(2):
                time.sleep(PAUSE_SECONDS)
                taken.append(engine.measure(cell, least_seconds=LEAST_SECONDS))
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
    latencies = [sample["median_latency"] for sample in clean if sample["median_latency"]]
    return {
        "tokens_per_second": clean[0]["tokens"] / statistics.median(seconds),
        "tokens": clean[0]["tokens"],
        "seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "median_latency": statistics.median(latencies) if latencies else None,
        "own_cores": statistics.median(sample["own_cores"] for sample in clean),
        "foreign_cores": max(sample["foreign_cores"] for sample in clean),
        "resident_mb": samples[-1]["resident_mb"],
        "peak_mb": samples[-1]["peak_mb"],
        "clean": count,
        "samples": len(samples),
    }


def identical(found: Sequence[Ids], base: Sequence[Ids]) -> float:
    """Returns the share of sentences that are the same, the last token aside.

    At the limit ours is the end token, theirs may be any.
    """
    pairs = list(zip(found, base, strict=True))
    return sum(len(a) == len(b) and a[:-1] == b[:-1] for a, b in pairs) / len(pairs)
