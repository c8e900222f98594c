"""Measures training: ours against PyTorch, Hugging Face and Keras' own attention.

    make benchmark DATA=FOLDER [OPTIONS="--sizes tiny --rounds 5"]

FOLDER holds Multi30k; `--help` lists the options. Results as they come go to stderr; what a whole
run gives is written to `results.md` beside this file, and `results.json` of the work folder. The
last lines on stdout are the verdict.
"""

import argparse
import itertools
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

from export.benchmark import records
from export.benchmark.needs import check_data, check_environments
from export.benchmark.processes import EngineFailureError, EngineProcess, started_engines
from export.benchmark.records import command_of, say
from export.benchmark.sampling import Effort, summarise, take_samples
from ktransformer.errors import InputError
from ktransformer.runtime.noise import quiet_stderr
from training.benchmark.training_registry import ENGINES, SIZES, THREADS
from training.benchmark.training_results import page, verdict
from training.benchmark.training_workload import TrainingWorkload
from training.programs import exit_status

HERE = Path(__file__).parent
BATCH_TOKENS = 4096
BATCHES = {"tiny": 2, "base": 1}  # Of a sample; evenly spread over the lengths.
AT_ONCE = {"tiny": 9, "base": 3}  # Engines in memory: one of base takes 5 to 7 GB.


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    return exit_status("benchmark", lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measures, writes the page and prints the verdict.

    Raises:
        InputError: Something that it needs is missing, or no engine could be measured.
    """
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    check(options)
    for size in options.sizes:
        folder = options.work / size
        say(f"{size}: preparing")
        with quiet_stderr():  # TensorFlow speaks up.
            from training.benchmark.training_batches import prepare

            prepare(size, options, folder, options.batches or BATCHES[size])
        rows += measure(size, folder, versions, options)
        save(rows, versions, options)
    write(rows, options)
    print("\n".join(verdict(rows)))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Measure training against the peers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="DIR", type=Path, help="Multi30k: train.en, train.de")
    add("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="which models")
    add("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="ENGINE")
    add("--batch-tokens", type=int, default=BATCH_TOKENS, help="of a batch, on each side")
    add("--batches", type=int, help="of a sample; 2 of tiny and 1 of base if not given")
    add("--at-once", type=int, help="engines in memory; 9 of tiny and 3 of base if not given")
    add("--rounds", type=int, default=5, help="samples of an engine")
    add("--seconds", type=float, default=40.0, help="an engine's time for them, but at least two")
    add("--max-foreign", type=float, default=0.15, help="cores others may use in a clean sample")
    add("--tries", type=int, default=3, help="how often to take a sample until it is clean")
    add("--peers", metavar="DIR", type=Path, default=Path(".peers"), help="environments vt, vk")
    add(
        "--work", metavar="DIR", type=Path, default=Path("runs/training-benchmark"), help="for data"
    )
    add("--output", metavar="FILE", type=Path, help="the page; beside this program if all is run")
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Raises an `InputError` for what is missing, before any work is done."""
    check_data(options.data)
    for number in (options.batch_tokens, options.batches or 1, options.rounds, options.tries):
        if number < 1:
            raise InputError(
                f"Batch tokens, batches, rounds and tries must be at least 1: {number}."
            )
    if options.at_once is not None and options.at_once < 2:
        raise InputError(f"At least 2 engines must be in memory at once: {options.at_once}.")
    pythons = {name: ENGINES[name].python(options.peers) for name in options.engines}
    check_environments(pythons, "benchmark")


def divide(engines: Sequence[str], at_once: int) -> list[list[str]]:
    """Divides engines into groups of so many at most, the first engine in each of them."""
    first, *others = engines
    step = at_once - 1
    return [[first, *others[i : i + step]] for i in range(0, max(len(others), 1), step)]


def measure(
    size: str, folder: Path, versions: dict[str, str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measures one size with all engines, as many at a time as memory holds.

    The first engine is in every group: `relative` is a row's speed by the first engine's in the
    same group, so that engines of different groups can be compared.
    """
    rows: list[dict[str, Any]] = []
    first = options.engines[0]
    for names in divide(options.engines, options.at_once or AT_ONCE[size]):
        found = measure_group(names, size, folder, versions, options)
        if not found or found[0]["engine"] != first:
            say(f"  {', '.join(names)}: left out, for {first} could not be measured with them")
            continue
        for row in found:
            row["relative"] = row["tokens_per_second"] / found[0]["tokens_per_second"]
        rows += found[1:] if rows else found
    return rows


def measure_group(
    names: Sequence[str],
    size: str,
    folder: Path,
    versions: dict[str, str],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Measures one size with some engines and says what came out.

    Each trains all batches once, which is not counted (it compiles); rounds follow. The matrix
    product is measured before and after them.
    """
    work = TrainingWorkload.load(folder)
    commands = {name: ENGINES[name].command(options.peers, folder) for name in names}
    threads = dict.fromkeys(commands, THREADS)
    firsts: dict[EngineProcess, float] = {}
    products: list[float] = []
    with started_engines(commands, threads, options.work / "logs") as running:
        for engine in running:
            try:
                firsts[engine] = engine.ask(operation="train")["seconds"]
                products.append(multiply(engine))
            except EngineFailureError as error:
                print(f"  {error}", file=sys.stderr, flush=True)
                continue
            versions.update(engine.started["versions"])
            say(f"  {engine.name:10} first pass {firsts[engine]:.1f} s")
        effort = Effort(options.rounds, options.seconds, options.max_foreign, options.tries)
        samples = take_samples(list(firsts), train, effort)
        products += [multiply(engine) for engine in samples]
    rows = []
    for engine, taken in samples.items():
        row = {
            "size": size,
            "engine": engine.name,
            **summarise(taken, options.max_foreign),
            "peak_mb": (peak := max(sample["peak_mb"] for sample in taken)),
            "own_peak_mb": peak - engine.started["import_mb"],
            "loss": taken[-1]["loss"],
            "core_seconds": statistics.median(
                sample["seconds"] * sample["own_cores"] for sample in taken
            ),
            "first_pass_seconds": firsts[engine],
            "batches": len(work.batches),
            "real": work.tokens / work.positions,
            "ceiling": max(products),
        }
        speed = row["tokens_per_second"] / work.tokens * work.operations
        rows.append({**row, "share": speed / row["ceiling"]})
        say(
            f"  {engine.name:10} {row['tokens_per_second']:8,.0f} tokens/s, "
            f"{row['tokens'] / row['core_seconds']:,.0f} a core second, "
            f"{rows[-1]['share']:.2f} of {row['ceiling'] / 1e9:.0f} GFLOP/s, "
            f"peak {row['peak_mb']:,.0f} MB, loss {row['loss']:.2f}, "
            f"clean {row['clean']}/{row['samples']}"
        )
    return rows


def train(engine: EngineProcess) -> dict[str, Any]:
    """Takes one sample."""
    return engine.ask(operation="train")


def multiply(engine: EngineProcess) -> float:
    """Returns an engine's floating-point operations a second in a large matrix product."""
    return float(engine.ask(operation="multiply")["operations_per_second"])


def save(rows: list[dict[str, Any]], versions: dict[str, str], options: argparse.Namespace) -> None:
    """Writes `results.json`: everything, also of a run that is cut short."""
    command = command_of("training.benchmark.training_speed", data="DATA")
    records.save(rows, versions, options.work, command=command, batch_tokens=options.batch_tokens)


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Writes the page: into the repository only if everything was measured."""
    output = options.output or (HERE if is_whole(rows, options) else options.work) / "results.md"
    records.write(rows, options.work, output, page)


def is_whole(rows: list[dict[str, Any]], options: argparse.Namespace) -> bool:
    """Tells whether every engine was measured at every size, with the default batches."""
    measured = {(row["size"], row["engine"]) for row in rows}
    default = options.batch_tokens == BATCH_TOKENS and options.batches is None
    return default and measured == set(itertools.product(SIZES, ENGINES))


if __name__ == "__main__":
    sys.exit(main())
