"""Measures what single options of a training give, each by a short training of its own.

    python -m training.translation.options FILE --source F --target F --validation-source F \
        --validation-target F --output DIR [--only NAME ...]

FILE is as `options.yaml` beside this. The command trains each option on one thread and evaluates it
on the validation text. DIR gets a run, a log and a `NAME.json` of each; what is there is not
measured again, and a training that was cut goes on. A table of all in DIR is printed in the end.
"""

import argparse
import dataclasses
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from ktransformer.config import read_settings
from ktransformer.errors import InputError
from ktransformer.files import json_text, new_file
from training.programs import exit_status

TEXT = ("source", "target", "validation_source", "validation_target")
_ENVIRONMENT = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
_SIZES = re.compile(r"Training ([\d,]+) parameters, .* ([\d,]+) updates an epoch")


@dataclasses.dataclass(frozen=True)
class Option:
    """What one training is to be, and where it goes."""

    name: str
    config: Path
    common: dict[str, Any]
    own: dict[str, Any]
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        """All that is set over `config`."""
        return {**self.common, **self.own}

    @property
    def run(self) -> Path:
        return self.folder / self.name

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.json"


def main() -> int:
    """Measures what the arguments say; returns the exit status."""
    arguments = parse_arguments()
    again = "Interrupted; the same command goes on."
    return exit_status("options", lambda: measure_chosen(arguments), interrupted=again)


def measure_chosen(arguments: argparse.Namespace) -> None:
    """Measures the options that the arguments choose and prints the table of all."""
    options = read_options(Path(arguments.file), Path(arguments.output))
    chosen = choose(options, arguments.only)
    Path(arguments.output).mkdir(parents=True, exist_ok=True)
    measure_all(chosen, arguments)
    print(table(options))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", metavar="FILE", help="the options, in YAML")
    for name in TEXT:
        parser.add_argument(flag(name), required=True, metavar="F")
    parser.add_argument("--output", required=True, metavar="DIR", help="where all of it goes")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="not all options")
    parser.add_argument("--at-a-time", type=int, default=2, metavar="N", help="2 by default")
    parser.add_argument("--tokenize", default="13a", help="sacreBLEU's tokenizer; 13a by default")
    return parser.parse_args()


def flag(name: str) -> str:
    """Returns how a command line names an argument."""
    return f"--{name.replace('_', '-')}"


def read_options(path: Path, folder: Path) -> list[Option]:
    """Reads the options, whose trainings go into a folder.

    Raises:
        InputError: The file is missing or not as `options.yaml`.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        config, common = path.parent / content["config"], content["common"]
        return [
            Option(name, config, dict(common), dict(own), folder)
            for name, own in content["options"].items()
        ]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} must have config, common and options.") from error


def choose(options: Sequence[Option], names: Iterable[str]) -> list[Option]:
    """Returns the options of these names in that order; all, if there is none.

    Raises:
        InputError: There is no option of a name.
    """
    known = {option.name: option for option in options}
    for name in names:
        if name not in known:
            raise InputError(f"There is no option {name!r}; there are {', '.join(known)}.")
    return [known[name] for name in names] or list(options)


def measure_all(options: Iterable[Option], arguments: argparse.Namespace) -> None:
    """Measures options, some at a time; none is begun after one that failed.

    Raises:
        InputError: See `measure`.
    """
    if arguments.at_a_time < 1:
        raise InputError(f"--at-a-time must be at least 1; got {arguments.at_a_time}.")
    pool = ThreadPoolExecutor(arguments.at_a_time)
    try:
        for future in [pool.submit(measure, option, arguments) for option in options]:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def measure(option: Option, arguments: argparse.Namespace) -> None:
    """Trains and evaluates an option and writes what came of it, unless that is there.

    Raises:
        InputError: It failed, or what is there is of other settings.
    """
    if option.record.is_file():
        if read_record(option)["settings"] != option.settings:
            raise InputError(f"{option.record} is of other settings; remove it and {option.run}.")
        return
    start = time.monotonic()
    went_on = option.log.exists()
    if option.run.exists():
        check_run(option)
    else:
        text = {flag(name): getattr(arguments, name) for name in TEXT}
        settings = [f"{key}={value}" for key, value in option.settings.items()]
        call(
            option,
            *("train", "--resume", "--config", option.config, "--output", option.run),
            *(word for pair in text.items() for word in pair),
            *(word for setting in settings for word in ("--set", setting)),
        )
    minutes = (time.monotonic() - start) / 60
    evaluation = call(
        option,
        *("evaluate", option.run, "--tokenize", arguments.tokenize),
        *("--source", arguments.validation_source, "--reference", arguments.validation_target),
    )
    parameters, updates = _SIZES.findall(option.log.read_text(encoding="utf-8"))[-1]
    record = {
        "settings": option.settings,
        "parameters": int(parameters.replace(",", "")),
        "updates_an_epoch": int(updates.replace(",", "")),
        "minutes": None if went_on else round(minutes, 1),
        "date": datetime.date.today().isoformat(),
        **json.loads(evaluation),
    }
    with new_file(option.record) as temporary:
        temporary.write_text(json_text(record), encoding="utf-8")
    print(f"{option.name}: BLEU {record['bleu']}", file=sys.stderr)


def check_run(option: Option) -> None:
    """Checks that a run that is there is the option's.

    Raises:
        InputError: It has other settings, or its log is missing.
    """
    try:
        config = json.loads((option.run / "model.json").read_text(encoding="utf-8"))["config"]
        found = {name: value for section in config.values() for name, value in section.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{option.run} is no run; remove it.") from error
    wanted = {**read_settings(option.config), **option.settings}
    if wanted != {name: found.get(name) for name in wanted} or not option.log.is_file():
        raise InputError(f"{option.run} has other settings or no log; remove it and {option.log}.")


def call(option: Option, *arguments: object) -> str:
    """Runs the command; what it says goes behind the log, what it prints is returned.

    Raises:
        InputError: It failed.
    """
    line = [sys.executable, "-m", "ktransformer", *map(str, arguments)]
    with option.log.open("ab") as log:
        result = subprocess.run(
            line, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=log, text=True, check=False
        )
    if result.returncode:
        lines = option.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit status {result.returncode}"
        raise InputError(f"{option.name} failed ({option.log}): {last}")
    return result.stdout


def read_record(option: Option) -> dict[str, Any]:
    """Reads what came of an option.

    Raises:
        InputError: The file is damaged.
    """
    try:
        record: dict[str, Any] = json.loads(option.record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{option.record} is damaged; remove it.") from error
    return record


def table(options: Iterable[Option]) -> str:
    """Makes a Markdown table of the options that have been measured."""
    rows = ["| settings | parameters | minutes | BLEU | chrF |", "| --- | --- | --- | --- | --- |"]
    for option in options:
        if option.record.is_file():
            record = read_record(option)
            own = " ".join(f"{key}={value}" for key, value in option.own.items())
            rows.append(
                f"| {f'`{own}`' if own else 'as it is'} | {record['parameters']:,} | "
                f"{record['minutes'] or ''} | {record['bleu']:.2f} | {record['chrf']:.2f} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
