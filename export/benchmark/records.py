"""The record of a benchmark's run, and the page that is written from it."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.benchmark import machine
from ktransformer.errors import InputError
from ktransformer.files import new_file

RECORD = "results.json"


def save(
    rows: Sequence[dict[str, Any]], versions: Mapping[str, str], work: Path, **about: Any
) -> None:
    """Writes `results.json` into the work folder: everything, also of a run that is cut short."""
    about |= {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
    }
    with new_file(work / RECORD) as file:
        file.write_text(json.dumps({"about": about, "rows": rows}, indent=1), encoding="utf-8")


def write(
    rows: Sequence[dict[str, Any]],
    work: Path,
    output: Path,
    page: Callable[[Sequence[dict[str, Any]], dict[str, Any]], str],
) -> None:
    """Writes the page of the rows and of what `save` recorded with them.

    Raises:
        InputError: There is no row.
    """
    if not rows:
        raise InputError(f"No engine could be measured; {work / 'logs'} may say why.")
    about = json.loads((work / RECORD).read_text(encoding="utf-8"))["about"]
    with new_file(output) as file:
        file.write_text(page(rows, about), encoding="utf-8")
    say(f"written: {output}")


def command_of(module: str, **hidden: str) -> str:
    """Returns the command line; `hidden` names the options of paths, and the words to show."""
    arguments = sys.argv[1:]
    for name, word in hidden.items():
        if f"--{name}" in arguments:
            arguments[arguments.index(f"--{name}") + 1] = word
    return f"python -m {module} {shlex.join(arguments)}"


def say(line: str) -> None:
    """Prints progress."""
    print(line, file=sys.stderr, flush=True)
