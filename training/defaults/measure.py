"""Trains with the settings that are chosen from the text, on texts of several sizes.

    python -m training.defaults.measure --output DIR [--multi30k FOLDER] [--only NAME ...]

from the repository's root. FOLDER holds `train.en.gz`, `train.de.gz`, `val.en.gz` and `val.de.gz`,
or files of the same beginnings and ends. DIR gets a run, a log and a `NAME.json` of each text; what
is there is not measured again, and a training that was cut goes on. The table of all in DIR is
printed in the end, to stdout.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ktransformer.errors import InputError
from ktransformer.files import json_text, new_file
from training.dates.data import Generation, generate
from training.programs import exit_status

DATES = {f"dates-{count}": count for count in (1000, 4000, 29_000, 300_000)}
MULTI30K = {f"multi30k-{count}": count for count in (1000, 4000, 29_000)}
_CHOSEN = ("vocabulary_size", "batch_tokens", "epochs", "optimizer", "schedule", "warmup_steps")
_UPDATES = re.compile(r": ([\d,]+) updates in ")


def main() -> int:
    """Measures what the arguments say; returns the exit status."""
    arguments = parse_arguments()
    again = "Interrupted; the same command goes on."
    return exit_status("measure", lambda: measure_chosen(arguments), interrupted=again)


def measure_chosen(arguments: argparse.Namespace) -> None:
    """Measures the texts that the arguments choose and prints the table of all in the folder."""
    folder = Path(arguments.output)
    names = [name for name in choose(arguments) if not (folder / f"{name}.json").is_file()]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_text(name, folder, arguments.multi30k)
        measure(name, folder)
    print(table(folder))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, metavar="DIR", help="where all goes")
    parser.add_argument("--multi30k", metavar="FOLDER", help="its text (default: dates alone)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these alone")
    return parser.parse_args()


def choose(arguments: argparse.Namespace) -> list[str]:
    """Returns the names of the texts to train on.

    Raises:
        InputError: One is unknown, or its text is not there.
    """
    known = [*DATES, *(MULTI30K if arguments.multi30k else {})]
    unknown = set(arguments.only or []) - set(known)
    if unknown:
        raise InputError(f"--only takes some of {', '.join(known)}; got {', '.join(unknown)}.")
    return [name for name in known if not arguments.only or name in arguments.only]


def write_text(name: str, folder: Path, multi30k: str | None) -> None:
    """Writes a text's four files."""
    if name in DATES:
        parts = generate(Generation(train=DATES[name]))
        sides = {
            f"{part}.{side}": getattr(parts[part], f"{side}s")
            for part in ("train", "validation")
            for side in ("source", "target")
        }
    else:
        count = MULTI30K[name]
        sides = {
            f"{part}.{side}": read_side(Path(multi30k or ""), begin, end)[:count]
            for part, begin in (("train", "train"), ("validation", "val"))
            for side, end in (("source", "en"), ("target", "de"))
        }
    for side, lines in sides.items():
        with new_file(folder / f"{name}.{side}") as file:
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_side(folder: Path, begin: str, end: str) -> Sequence[str]:
    """Reads the one file of a name that begins and ends so, unpacked or not.

    Raises:
        InputError: There is none, or there are several.
    """
    found = [*folder.glob(f"{begin}.*{end}"), *folder.glob(f"{begin}.*{end}.gz")]
    if len(found) != 1:
        raise InputError(f"{folder} must hold one {begin}.*{end} or .gz; got {len(found)}.")
    content = found[0].read_bytes()
    text = gzip.decompress(content) if found[0].suffix == ".gz" else content
    return text.decode().removesuffix("\n").split("\n")


def measure(name: str, folder: Path) -> None:
    """Trains with nothing set, evaluates on the validation text and records both."""
    run, log = folder / name, folder / f"{name}.log"
    files = {side: str(folder / f"{name}.{side}") for side in ("train.source", "train.target")}
    valid = [str(folder / f"{name}.validation.{side}") for side in ("source", "target")]
    start = time.monotonic()
    with log.open("a") as stderr:
        train = ["train", "--source", files["train.source"], "--target", files["train.target"]]
        train += ["--validation-source", valid[0], "--validation-target", valid[1]]
        minutes = None  # Unknown for a run that is there already.
        if not run.is_dir():
            command([*train, "--output", str(run), "--resume"], stderr)
            minutes = (time.monotonic() - start) / 60
        scores = command(["evaluate", str(run), "--source", valid[0], "--reference", valid[1]])
    described = json.loads((run / "model.json").read_text(encoding="utf-8"))
    settings = {**described["config"]["data"], **described["config"]["training"]}
    updates = _UPDATES.findall(log.read_text())[-1]
    record = {"scores": json.loads(scores), "minutes": minutes, "updates": updates}
    record["settings"] = {key: settings[key] for key in _CHOSEN}
    with new_file(folder / f"{name}.json") as file:
        file.write_text(json_text(record), encoding="utf-8")


def command(arguments: Sequence[str], stderr: object = None) -> str:
    """Runs a command of ktransformer in a process of its own; returns its stdout.

    Raises:
        InputError: It failed.
    """
    line = [sys.executable, "-m", "ktransformer", *arguments]
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(line)} ended with status {done.returncode}.")
    return done.stdout


def table(folder: Path) -> str:
    """Returns a Markdown table of all texts in a folder."""
    lines = ["| text | chosen | updates | minutes | BLEU | chrF | exact match |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name in [*DATES, *MULTI30K]:
        path = folder / f"{name}.json"
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            chosen = ", ".join(f"{key}={value}" for key, value in record["settings"].items())
            scores, minutes = record["scores"], record["minutes"]
            time_taken = "" if minutes is None else f"{minutes:.0f}"
            lines.append(
                f"| {name} | {chosen} | {record['updates']} | {time_taken} "
                f"| {scores['bleu']:.2f} | {scores['chrf']:.2f} | {scores['exact_match']:.3f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
