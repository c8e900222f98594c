"""Measures the resident memory of engines, each in a fresh process for each cell.

    python -m export.benchmark.memory FOLDER [--engines lite-float32-product ct2-float32]

FOLDER is a model of `decoding.py`'s work folder. Every engine decodes a batch twice; a line for
each says what its process holds then, and the ratio to the last of the engines. Memory, unlike
speed, may be measured on a busy machine.
"""

import argparse
import sys
from pathlib import Path

from export.benchmark.measuring import Cell, decode, engines
from export.benchmark.needs import check_environments
from export.benchmark.registry import ENGINES
from training.programs import exit_status


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the resident memory of engines.")
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path)
    names = ["lite-float32-product", "lite-float32", "lite-float32-split", "ct2-float32"]
    add("--engines", nargs="+", choices=ENGINES, default=names, metavar="ENGINE")
    add("--beams", nargs="+", type=int, default=[1, 4])
    add("--batches", nargs="+", type=int, default=[1, 16, 64])
    add("--peers", metavar="DIR", type=Path, default=Path(".peers"))
    options = parser.parse_args()
    return exit_status("memory", lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measures and prints every cell.

    Raises:
        InputError: An engine's environment is missing.
    """
    pythons = {name: ENGINES[name].python(options.peers) for name in options.engines}
    check_environments(pythons, "benchmark-decoding")
    for beam in options.beams:
        for batch in options.batches:
            cell = Cell(options.folder.name, beam, batch, batch)
            found = {name: resident(name, cell, options) for name in options.engines}
            base = found[options.engines[-1]]
            shown = (f"{name} {size:.0f} MB ({size / base:.2f})" for name, size in found.items())
            print(f"{cell.model} {cell}: {', '.join(shown)}", flush=True)


def resident(name: str, cell: Cell, options: argparse.Namespace) -> float:
    """Returns the resident memory of an engine behind a cell, in MB."""
    specs, logs = {name: ENGINES[name]}, options.folder.parent / "logs"
    with engines(specs, options.folder, cell.beam, peers=options.peers, logs=logs) as (engine,):
        decode(engine, cell)
        size: float = decode(engine, cell)["resident_mb"]
    return size


if __name__ == "__main__":
    sys.exit(main())
