"""Writes the page about the claims from what the experiments measured."""

import datetime
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ktransformer.errors import InputError
from ktransformer.files import new_file
from training.claims import experiments
from training.claims.finding import Finding

INTRODUCTION = """\
# The claims, measured

Much is said about why the Transformer is built as it is: that residual connections keep gradients
alive, that the scores must be divided by the square root of their width, that many heads see
different things. This page takes {count} of these claims and measures each on small models that
anyone can train. Every section says the claim in one sentence, what was measured, what came out,
and a verdict:

- **holds**: the measurements show it;
- **holds only when ...**: they show it under a condition that is named;
- **does not hold**: they do not show it.

The models are small, trained for seconds, on a few thousand texts: dates in 23 locales to be
written as 2026-03-03, and English prose from the documentation that every Python carries. What
holds here need not hold at a thousand times the size, and the other way round; where the
literature says so, the section does. A line in a picture is the mean of the seeds (the runs with
different random numbers), the band around it goes from the lowest to the highest.

A verdict is not written by hand. The experiment's file holds a rule, and the figures and the
verdict follow from the measurements by that rule: a run on another machine may come to another
verdict, and then the page says so.
"""

Section = tuple[ModuleType, dict[str, Any], Finding]


def write(output: Path) -> None:
    """Writes `output/claims.md` from the JSON files in `output/claims`.

    Raises:
        InputError: There is no such file, or one cannot be read.
    """
    sections = list(read_sections(output))
    if not sections:
        raise InputError(f"There is no measurement in {output / 'claims'}.")
    parts = [INTRODUCTION.format(count=len(sections)), _table(sections), _origin(sections)]
    parts += [_section(*section) for section in sections]
    with new_file(output / "claims.md") as path:
        path.write_text("\n".join(parts), encoding="utf-8")


def draw_again(output: Path, names: Collection[str]) -> None:
    """Draws the pictures of experiments anew from the JSON files in `output/claims`."""
    sections = [section for section in read_sections(output) if section[0].NAME in names]
    for module, record, _ in sections:
        with new_file(output / "claims" / f"{module.NAME}.png") as path:
            module.draw(record["measurements"], path)


def read_sections(output: Path) -> Iterator[Section]:
    """Yields each experiment that was measured, in order, with its record and its finding."""
    for name in experiments.EXPERIMENTS:
        if (output / "claims" / f"{name}.json").is_file():
            module, record = experiments.load(name), read_record(output, name)
            yield module, record, module.conclude(record["measurements"])


def read_record(output: Path, name: str) -> dict[str, Any]:
    """Reads what `measure.py` wrote.

    Raises:
        InputError: The file is missing or not JSON.
    """
    path = output / "claims" / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from error


def _table(sections: list[Section]) -> str:
    rows = ["| | claim | verdict |", "| --- | --- | --- |"]
    for module, _, finding in sections:
        link = f"[{finding.title}](#{_anchor(module, finding)})"
        rows.append(f"| {module.NUMBER} | {link}: {finding.claim} | {finding.sentence()} |")
    return "\n".join([*rows, ""])


def _origin(sections: list[Section]) -> str:
    """Says how, where and when all this was measured, and how long it took."""
    records = [record for _, record, _ in sections]
    dates = sorted({record["date"] for record in records})
    days = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    machines = "; ".join(dict.fromkeys(record["machine"] for record in records))
    total = datetime.timedelta(seconds=round(sum(record["seconds"] for record in records)))
    quick = any(record["quick"] for record in records)
    warning = "**Some of it was measured with `--quick`, which shows nothing.** " if quick else ""
    return (
        f"{warning}Measured by `make claims` on {days} on {machines}. The experiments took "
        f"{total} (hours, minutes, seconds) of one core in all; two run at a time. "
        "The measurements lie beside the pictures in [claims](claims), and "
        "[training/claims](../training/claims) holds the experiments.\n"
    )


def _section(module: ModuleType, record: dict[str, Any], finding: Finding) -> str:
    seeds = record["settings"]["seeds"]
    run = f"`python -m training.claims.run {module.NAME}`"
    return f"""\
## {module.NUMBER}. {finding.title}

**Claim.** {finding.claim}

**Measured.** {finding.measured}

![{finding.alt}](claims/{module.NAME}.png)

**Outcome.** {finding.outcome}

**Verdict.** The claim **{finding.sentence()}**.

**Why.** {finding.explanation}

*{finding.reference}*

({run}, seeds {", ".join(map(str, seeds))}, {record["date"]}, {record["seconds"]:.0f} s of one core)
"""


def _anchor(module: ModuleType, finding: Finding) -> str:
    """Returns what GitHub makes of the heading of a section."""
    heading = f"{module.NUMBER}. {finding.title}".lower()
    kept = "".join(c for c in heading if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
