"""Measures `ktransformer translate` on a long file: memory, lines a second, and what sorting gives.

    python export/long_file.py MODEL --source FILE [--lines 20000 100000] [--compare 2000]

The source's lines are repeated until there are enough of them. Each length is translated by a
command of its own; the peak of its resident memory and its lines a second (loading left out) are
printed. Then, in this
process, three ways through the same lines take turns: batches in file order, batches of like
length, and batches of like length several at once, as the command does it. All three must give
the same texts.
"""

import argparse
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

from ktransformer.engines import Engine, available_cores, load_engine, translate_blocks
from ktransformer.errors import InputError
from ktransformer.text import read_lines

BATCH_SIZE = 32


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a run, a SavedModel or a .tflite")
    parser.add_argument("--source", required=True, help="texts, a line each")
    parser.add_argument("--lines", type=int, nargs="*", default=[20_000, 100_000])
    parser.add_argument("--compare", type=int, default=2000, help="lines for the comparison")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    options = parser.parse_args()
    try:
        measure(options)
    except InputError as error:
        sys.exit(f"long_file: {error}")


def measure(options: argparse.Namespace) -> None:
    """Measures what the options say and prints it.

    Raises:
        InputError: There is no text, or no such model.
    """
    lines = list(read_lines(options.source))
    if not lines or options.rounds < 1:
        raise InputError("There must be a text, and --rounds must be at least 1.")
    print("| lines | lines a second | peak memory, MiB |\n| --- | --- | --- |")
    for count in options.lines:
        rate, memory = run_command(options.model, itertools.islice(itertools.cycle(lines), count))
        print(f"| {count} | {rate:.0f} | {memory:.0f} |", flush=True)
    print(f"\n| {options.compare} lines | lines a second, median | ratio |\n| --- | --- | --- |")
    rates = compare(options.model, lines[: options.compare], options.rounds)
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rate / next(iter(rates.values())):.2f} |")


def run_command(model: str, lines: itertools.islice) -> tuple[float, float]:
    """Translates lines with the command; returns its lines a second and its peak in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        with source.open("rb") as stdin, (Path(folder) / "errors").open("w+b") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "ktransformer", "translate", model],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            _, status, usage = os.wait4(process.pid, 0)
            errors.seek(0)
            report = errors.read().decode()
    found = re.search(r"translated, ([\d.]+) a second\.", report)
    if status or not found:
        sys.exit(report)
    return float(found[1]), usage.ru_maxrss / 1024  # Linux counts in KiB.


def compare(model: str, lines: Sequence[str], rounds: int) -> dict[str, float]:
    """Returns the lines a second of each way through the lines, medians of several turns."""
    cores = available_cores()
    one = load_engine(model, threads=cores)
    several = load_engine(model, threads=1, concurrency=cores)
    in_order = [lines[i : i + BATCH_SIZE] for i in range(0, len(lines), BATCH_SIZE)]
    ways: dict[str, Callable[[], list[str]]] = {
        "file order, batch by batch": lambda: texts(one, in_order),
        "like length, batch by batch": lambda: texts(one, [lines]),
        f"like length, {cores} batches at once": lambda: texts(several, [lines]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        results = []
        for name, way in ways.items():
            begin = time.perf_counter()
            results.append(way())
            seconds[name].append(time.perf_counter() - begin)
        if results.count(results[0]) != len(results):
            sys.exit("The ways differ in their texts.")
    return {name: len(lines) / statistics.median(times) for name, times in seconds.items()}


def texts(engine: Engine, blocks: Sequence[Sequence[str]]) -> list[str]:
    """Translates blocks one after the other."""
    translated = translate_blocks(engine, blocks, batch_size=BATCH_SIZE)
    return [translation.text for block in translated for translation in block]


if __name__ == "__main__":
    main()
