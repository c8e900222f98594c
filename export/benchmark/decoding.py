"""Measures decoding with our exports against CTranslate2, Hugging Face and KerasHub.

    make benchmark-decoding DATA=FOLDER [RUN=runs/multi30k] [OPTIONS="--models T --rounds 3"]

FOLDER holds Multi30k; `--help` lists the options. Results as they come go to stderr; what a whole
run gives is written to `results.md` beside this file, and `results.json` of the work folder. The
last lines on stdout are the verdicts: for the fastest of our exports in each cell, then for the
SavedModel, the .tflite as the product runs it, and int8 each.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

from export.benchmark import records
from export.benchmark.measuring import Cell, engines, measure_cell
from export.benchmark.needs import check_data, check_environments
from export.benchmark.processes import EngineProcess
from export.benchmark.records import command_of, save, say
from export.benchmark.registry import ENGINES, EngineSpec
from export.benchmark.results import page, product_verdicts, verdict
from export.benchmark.sampling import Effort
from ktransformer.errors import InputError
from ktransformer.runtime.noise import quiet_stderr
from training.programs import exit_status

HERE = Path(__file__).parent
MODELS, TRAINED = ("T", "B"), "trained"
BEAMS, BATCHES = (1, 4), (1, 16, 64)
# Sentences of a pass by batch size: as few as say something.
COUNTS = {"T": {1: 16, 16: 32, 64: 128}, "B": {1: 4, 16: 16, 64: 64}}


def main() -> int:
    """Runs what the arguments say; returns the exit status."""
    options = parse_arguments()
    return exit_status("benchmark", lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measures, writes the page and prints the verdict.

    Raises:
        InputError: Something that it needs is missing, or no engine could be measured.
    """
    check(options)
    for model in models_of(options):
        if not options.reuse:
            prepare(model, options)
    rows = measure_all(options)
    write(rows, options)
    if options.run is not None:
        print(verdict(rows, [TRAINED]))
    print(verdict(rows, MODELS))
    measured = [model for model in ("T", TRAINED, "B") if model in models_of(options)]
    print(product_verdicts(rows, measured))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Measure decoding against the peers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    names = [name for name, spec in ENGINES.items() if spec.default]
    add = parser.add_argument
    add("--data", metavar="DIR", type=Path, help="Multi30k: train.{en,de}, test_2016_flickr.en")
    add("--run", metavar="RUN", type=Path, help="a trained run, measured too")
    add("--models", nargs="*", choices=MODELS, default=MODELS, help="sizes, random weights")
    add("--beams", nargs="+", type=int, default=BEAMS, help="1 is greedy search")
    add("--batches", nargs="+", type=int, default=BATCHES, help="sentences in a batch")
    add("--sentences", type=int, help="of a pass; by the size and the batch if not given")
    add("--engines", nargs="+", choices=ENGINES, default=names, metavar="ENGINE", help="which")
    add("--rounds", type=int, default=5, help="samples of an engine in a cell")
    add("--seconds", type=float, default=6.0, help="an engine's time for them, but at least two")
    add("--max-foreign", type=float, default=0.15, help="cores others may use in a clean sample")
    add("--peers", metavar="DIR", type=Path, default=Path(".peers"), help="environments vt, vk")
    add("--work", metavar="DIR", type=Path, default=Path("runs/benchmark"), help="for the models")
    add("--reuse", action="store_true", help="take the models that are in the work folder")
    add("--output", metavar="FILE", type=Path, help="the page; beside this program if all is run")
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Raises an `InputError` for what is missing, before any work is done."""
    check_data(options.data)
    for number in (*options.beams, *options.batches, options.rounds, options.sentences or 1):
        if number < 1:
            raise InputError(f"Beams, batches, sentences and rounds must be at least 1: {number}.")
    pythons = {name: ENGINES[name].python(options.peers) for name in options.engines}
    check_environments(pythons, "benchmark-decoding")
    if options.reuse:
        for model in models_of(options):
            if not (options.work / model / "hf").is_dir():
                raise InputError(f"--reuse: there is no whole model in {options.work / model}.")


def models_of(options: argparse.Namespace) -> list[str]:
    """Lists the models to measure."""
    return [*options.models, *([TRAINED] if options.run is not None else [])]


def prepare(model: str, options: argparse.Namespace) -> None:
    """Makes a model's exports, those in the peers' formats, too."""
    say(f"{model}: exporting")
    with quiet_stderr():
        # It imports TensorFlow, which a run with --reuse does without.
        from export.benchmark import prepare as exports

        folder = options.work / model
        peers = any(ENGINES[name].environment == "vt" for name in options.engines)
        if model == TRAINED:
            run = options.run
            exports.prepare_trained(run, options.data, options.beams, folder, peers=peers)
        else:
            exports.prepare_random(model, options.data, options.beams, folder, peers=peers)


def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures every cell; saves what there is after each one."""
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for model in models_of(options):
        for beam in options.beams:
            folder, logs = options.work / model, options.work / "logs"
            chosen = chosen_engines(model, options)
            with engines(chosen, folder, beam, peers=options.peers, logs=logs) as running:
                for engine in running:
                    versions.update(engine.started["versions"])
                for batch in options.batches:
                    rows += measure(model, beam, batch, running, options)
                    command = command_of("export.benchmark.decoding", data="DATA", run="RUN")
                    save(rows, versions, options.work, command=command)
    return rows


def chosen_engines(model: str, options: argparse.Namespace) -> dict[str, EngineSpec]:
    """Returns the engines that were asked for and can run the model."""
    specs = {name: spec for name, spec in ENGINES.items() if name in options.engines}
    return {name: spec for name, spec in specs.items() if spec.ends or model != TRAINED}


def measure(
    model: str,
    beam: int,
    batch: int,
    running: list[EngineProcess],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Measures one cell and says what came out."""
    counts = COUNTS.get(model, COUNTS["T"])
    count = options.sentences or counts.get(batch, max(batch, counts[1]))
    cell = Cell(model, beam, batch, max(batch, count))
    effort = Effort(options.rounds, options.seconds, options.max_foreign)
    say(f"{model} {cell}, {cell.count} sentences")
    rows = measure_cell(running, cell, effort)
    for row in rows:
        same = "" if row["identical"] is None else f", {row['identical']:.2f} identical"
        say(
            f"  {row['engine']:20} {row['tokens_per_second']:9,.0f} tokens/s, "
            f"first call {row['first_call_seconds']:.2f} s, {row['resident_mb']:.0f} MB, "
            f"clean {row['clean']}/{row['samples']}{same}"
        )
    return rows


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Writes the page: into the repository only if every default cell was measured."""
    output = options.output or (HERE if is_whole(rows, options) else options.work) / "results.md"
    records.write(rows, options.work, output, page)


def is_whole(rows: list[dict[str, Any]], options: argparse.Namespace) -> bool:
    """Tells whether every default engine was measured in every default cell."""
    names = [name for name, spec in ENGINES.items() if spec.default]
    measured = {(row["model"], row["beam"], row["batch"], row["engine"]) for row in rows}
    cells = set(itertools.product(MODELS, BEAMS, BATCHES, names))
    return options.sentences is None and cells <= measured


if __name__ == "__main__":
    sys.exit(main())
