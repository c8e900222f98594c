"""Measures the speed of one checkout of the repository against another's, old against new.

    python -m export.benchmark.compare_checkouts OLD NEW [--sizes T] [--only lite training]

OLD and NEW are folders that hold `ktransformer/`. Both checkouts export the same random weights and
train on the same batches, in processes of their own. The two take turns, so that a busy moment of
the machine hits both, and never work at the same time. The table on stdout has, for each cell, the
median over the rounds of new speed / old speed. A cell below `--least` is measured a second time,
and its rounds are judged together.

The exit status is 1 if a cell is below `--least`, 2 if something could not be measured.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.benchmark.measuring import identical
from export.benchmark.processes import ROOT, EngineFailureError, EngineProcess, started_engines
from export.benchmark.registry import THREADS
from export.benchmark.sampling import Effort, take_samples
from export.benchmark.tables import table
from ktransformer.errors import InputError

SIZES, KINDS, SIDES = ("T", "B"), ("lite", "saved_model", "training"), ("old", "new")
COUNTS = {"T": {1: 16, 16: 32, 64: 128}, "B": {1: 4, 16: 16, 64: 64}}  # Sentences of a pass.
LEAST_SECONDS = 0.5  # A shorter sample is repeated within its turn.
Sample = Callable[[EngineProcess], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is compared at once.

    Attributes:
        size: `T` or `B`.
        kind: `lite`, `saved_model` or `training`.
        beam: Hypotheses, 1 for greedy search; None for training.
        batch: Sentences in a batch; None for training.
    """

    size: str
    kind: str
    beam: int | None = None
    batch: int | None = None

    def __str__(self) -> str:
        if self.beam is None:
            return f"{self.size} {self.kind}"
        search = "greedy" if self.beam == 1 else f"beam {self.beam}"
        return f"{self.size} {self.kind} {search} batch {self.batch}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The rounds of a cell.

    Attributes:
        cell: What was compared.
        old: Tokens a second of each round.
        new: The same of the other checkout.
        foreign_cores: The most cores that other processes used during a round.
        identical: The share of sentences with the same ids; None for training.
    """

    cell: Cell
    old: tuple[float, ...]
    new: tuple[float, ...]
    foreign_cores: float
    identical: float | None = None

    @property
    def ratios(self) -> list[float]:
        """New speed / old speed of each round."""
        return [new / old for old, new in zip(self.old, self.new, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios)

    def __add__(self, other: "Comparison") -> "Comparison":
        """Returns the rounds of both."""
        foreign = max(self.foreign_cores, other.foreign_cores)
        old, new = self.old + other.old, self.new + other.new
        return dataclasses.replace(self, old=old, new=new, foreign_cores=foreign)


def main() -> int:
    """Compares what the arguments say; returns the exit status."""
    options = parse_arguments()
    try:
        sources = {side: link_sources(side, options) for side in SIDES}
        found = list(compare(sources, options))
    except (InputError, EngineFailureError, OSError) as error:
        print(f"compare_checkouts: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare_checkouts: Interrupted.", file=sys.stderr)
        return 130
    print(page(found))
    print(verdict(found, options.least))
    return 0 if all(each.ratio >= options.least for each in found) else 1


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Measure a checkout against an older one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("old", metavar="OLD", type=Path, help="folder of the older checkout")
    add("new", metavar="NEW", type=Path, help="folder of the newer checkout")
    add("--sizes", nargs="+", choices=SIZES, default=SIZES, help="sizes of the model")
    add("--only", nargs="+", choices=KINDS, default=KINDS, help="what to compare")
    add("--beams", nargs="+", type=int, default=(1, 4), help="1 is greedy search")
    add("--batches", nargs="+", type=int, default=(1, 16, 64), help="sentences in a batch")
    add("--rounds", type=int, default=6, help="samples of a checkout in a cell")
    add("--seconds", type=float, default=20.0, help="for one's samples of a cell; at least two")
    add("--least", type=float, default=0.97, help="the least ratio that passes")
    add("--work", metavar="DIR", type=Path, default=Path("runs/checkouts"), help="for the models")
    return parser.parse_args()


def link_sources(side: str, options: argparse.Namespace) -> Path:
    """Makes a folder that holds a checkout's `ktransformer` alone.

    A whole checkout on the path would also bring its own `export`.

    Raises:
        InputError: The folder holds no `ktransformer`.
    """
    package = getattr(options, side).absolute() / "ktransformer"
    if not (package / "__init__.py").is_file():
        raise InputError(f"{side.upper()} must hold ktransformer/; got {getattr(options, side)}.")
    folder: Path = options.work.absolute() / "sources" / side
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "ktransformer"
    link.unlink(missing_ok=True)
    link.symlink_to(package)
    return folder


def python_on(sources: Path) -> list[str]:
    """Returns the start of a command that imports ktransformer from `sources`."""
    path = os.pathsep.join([str(sources), str(ROOT)])
    return ["env", f"PYTHONPATH={path}", sys.executable, "-P", "-m"]


def compare(sources: dict[str, Path], options: argparse.Namespace) -> Iterator[Comparison]:
    """Yields the comparison of each cell."""
    effort = Effort(options.rounds, options.seconds, max_foreign=math.inf, tries=1)
    for size in options.sizes:
        prepare(size, sources, options)
        for kind, beam in searches(options):
            with both(size, kind, beam, sources, options) as running:
                for cell in cells(size, kind, beam, options):
                    found = compare_cell(cell, running, effort)
                    if found.ratio < options.least:
                        say(found)
                        found += compare_cell(cell, running, effort)
                    say(found)
                    yield found


def searches(options: argparse.Namespace) -> Iterator[tuple[str, int | None]]:
    """Yields each kind with each of its beam sizes; training has none."""
    for kind in options.only:
        yield from ((kind, beam) for beam in ((None,) if kind == "training" else options.beams))


def cells(size: str, kind: str, beam: int | None, options: argparse.Namespace) -> Iterator[Cell]:
    """Yields the cells that the same two processes measure."""
    for batch in (None,) if beam is None else options.batches:
        yield Cell(size, kind, beam, batch)


def prepare(size: str, sources: dict[str, Path], options: argparse.Namespace) -> None:
    """Writes the weights with the old checkout and exports them with both, side by side."""
    print(f"{size}: preparing", file=sys.stderr, flush=True)
    arguments = [size, str(options.work.absolute())]
    run_all([[*python_on(sources["old"]), "export.benchmark.checkout", "weights", *arguments]])
    kinds = [kind for kind in options.only if kind != "training"]
    chosen = ["--only", *kinds, "--beams", *map(str, options.beams)]
    if kinds:
        run_all(
            [*python_on(folder), "export.benchmark.checkout", "export", *arguments, side, *chosen]
            for side, folder in sources.items()
        )


def run_all(commands: Iterator[list[str]] | Sequence[list[str]]) -> None:
    """Runs commands at the same time.

    Raises:
        InputError: One failed.
    """
    running = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    ended = [(process, process.communicate()[1]) for process in running]
    for process, errors in ended:
        if process.returncode:
            last = (errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            raise InputError(f"{' '.join(map(str, process.args[5:]))} failed: {last}")


@contextmanager
def both(
    size: str,
    kind: str,
    beam: int | None,
    sources: dict[str, Path],
    options: argparse.Namespace,
) -> Iterator[list[EngineProcess]]:
    """Starts a process of each checkout, the old one's first, and ends them.

    Raises:
        InputError: One did not start.
    """
    folder = options.work.absolute() / size
    commands = {}
    for side, path in sources.items():
        if kind == "training":
            module = ["training.benchmark.training_worker", "ours", str(folder / "training")]
            engine = {"whole_logits": False, "jit_compile": False}
        else:
            module = ["export.benchmark.worker", kind, str(folder / side), str(beam)]
            engine = {"threads": THREADS} if kind == "lite" else {}
        commands[f"{size}-{kind}-{beam}-{side}"] = [*python_on(path), *module, json.dumps(engine)]
    logs = options.work / "logs"
    with started_engines(commands, dict.fromkeys(commands, THREADS), logs) as running:
        if len(running) < len(commands):
            raise InputError(f"{size} {kind} could not be started; {logs} may say why.")
        yield running


def compare_cell(cell: Cell, running: Sequence[EngineProcess], effort: Effort) -> Comparison:
    """Lets the checkouts take turns at a cell, after a pass of each that is not counted."""
    if cell.kind == "training":
        request, first = {"operation": "train"}, {"operation": "train"}
    else:
        count = COUNTS[cell.size].get(cell.batch, cell.batch)
        request = {"batch": cell.batch, "count": count, "together": False}
        first = {**request, "with_ids": True}
        request["least_seconds"] = LEAST_SECONDS
    ids = [engine.ask(**first).get("ids") for engine in running]
    samples = take_samples(running, lambda engine: engine.ask(**request), effort)
    rounds = list(zip(*(samples[engine] for engine in running), strict=False))
    old, new = (
        tuple(sample["tokens"] / sample["seconds"] for sample in side)
        for side in zip(*rounds, strict=True)
    )
    foreign = max(sample["foreign_cores"] for pair in rounds for sample in pair)
    return Comparison(cell, old, new, foreign, None if ids[0] is None else identical(*ids))


def page(found: Sequence[Comparison]) -> str:
    """Makes the Markdown table of all cells."""
    head = ["cell", "old, tokens/s", "new, tokens/s", "new / old", "least to most", "rounds"]
    return table(
        [*head, "same ids", "others' cores"],
        [
            [
                str(each.cell),
                f"{statistics.median(each.old):,.0f}",
                f"{statistics.median(each.new):,.0f}",
                f"{each.ratio:.3f}",
                f"{min(each.ratios):.3f} to {max(each.ratios):.3f}",
                str(len(each.ratios)),
                "" if each.identical is None else f"{each.identical:.2f}",
                f"{each.foreign_cores:.2f}",
            ]
            for each in found
        ],
    )


def verdict(found: Sequence[Comparison], least: float) -> str:
    """Says in one line which cell is the worst, and how many are below `least`."""
    worst = min(found, key=lambda each: each.ratio)
    below = sum(each.ratio < least for each in found)
    return (
        f"worst ratio: {worst.ratio:.3f} ({worst.cell}); {below} of {len(found)} below {least:.3f}"
    )


def say(found: Comparison) -> None:
    """Prints progress."""
    print(f"  {found.cell}: {found.ratio:.3f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
