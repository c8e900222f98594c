"""Runs one experiment in this process, with one thread, and writes its JSON file and its picture.

    python -m training.claims.measure NAME [--quick] [--output DIR]

`run.py` starts it for each experiment. Started alone, it shows the full traceback of a failure.
"""

import os

# Before TensorFlow is imported.
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
os.environ["TF_NUM_INTEROP_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import dataclasses
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

from ktransformer.files import new_file
from training.claims import experiments, machine


def main() -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=experiments.EXPERIMENTS, help="the experiment")
    parser.add_argument("--quick", action="store_true", help="settings that take seconds")
    parser.add_argument("--output", default="runs", metavar="DIR", help="folder of claims/NAME.*")
    options = parser.parse_args()
    measure(options.name, options.quick, Path(options.output) / "claims")
    return 0


def measure(name: str, quick: bool, folder: Path) -> dict[str, Any]:
    """Runs one experiment and writes `folder/NAME.json` and `folder/NAME.png`.

    It writes both at the end: a failed experiment leaves the files of an earlier run.

    Returns:
        The content of the JSON file.
    """
    module = experiments.load(name)
    settings = module.QUICK if quick else module.Settings()
    date, start = datetime.date.today().isoformat(), time.process_time()
    measurements = module.measure(settings)
    record = {
        "name": name,
        "quick": quick,
        "settings": dataclasses.asdict(settings),
        "machine": machine.describe(),
        "date": date,
        "seconds": round(time.process_time() - start, 1),  # Of CPU time.
        "measurements": measurements,
    }
    # From the text, so that `--page-only` draws and concludes the same later.
    text = json.dumps(record, allow_nan=False)
    record = json.loads(text)
    module.conclude(record["measurements"])
    with new_file(folder / f"{name}.png") as picture, new_file(folder / f"{name}.json") as file:
        module.draw(record["measurements"], picture)
        file.write_text(text + "\n", encoding="utf-8")
    return record


if __name__ == "__main__":
    sys.exit(main())
