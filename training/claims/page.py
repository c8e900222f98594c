"""Writes docs/claims.md from the measurements of the experiments."""

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

Textbooks explain the design of the Transformer by claims: residual connections keep gradients
alive, the scores must be divided by the square root of their width, several heads see different
things. This page measures {count} of these claims on small models that anyone can train. Every
section states the claim in one sentence, the measurement, the outcome and a verdict:

- **holds**: the measurements confirm the claim;
- **holds only when ...**: they confirm it under the named condition;
- **does not hold**: they do not confirm it.

The models train for seconds, on a few thousand texts or images. The texts are dates in 23 locales,
to be written as 2026-03-03, and English prose from the documentation inside Python. The models of
dates are the package's `Transformer`. The models of English are its `CausalLanguageModel` with
sinusoidal positions, scaled embeddings and ReLU; with pre-norm unless a section says otherwise, and
without dropout unless a section names one. The images are scikit-learn's handwritten digits, and
shapes and textures that the experiments draw. Their models are the package's `VisionTransformer`
with 4 heads, without dropout. A claim that holds here need not hold at a thousand times the
size, and the reverse; where the literature reports on that, the section does. A line in a picture
is the mean over seeds, and the band around it is their range.

No verdict is written by hand. A rule in the code of each experiment computes the verdict from the
measurements, so a run on another machine may reach another verdict, which the page then shows.
"""

Section = tuple[ModuleType, dict[str, Any], Finding]


def write(output: Path) -> None:
    """Writes `output/claims.md` from the JSON files in `output/claims`.

    Raises:
        InputError: There is no JSON file, or one cannot be read.
    """
    sections = list(read_sections(output))
    if not sections:
        raise InputError(f"There is no measurement in {output / 'claims'}.")
    parts = [INTRODUCTION.format(count=len(sections)), _table(sections), _origin(sections)]
    parts += [_section(*section) for section in sections]
    with new_file(output / "claims.md") as path:
        path.write_text("\n".join(parts), encoding="utf-8")


def redraw(output: Path, names: Collection[str]) -> None:
    """Redraws the pictures of experiments from the JSON files in `output/claims`."""
    sections = [section for section in read_sections(output) if section[0].NAME in names]
    for module, record, _ in sections:
        with new_file(output / "claims" / f"{module.NAME}.png") as path:
            module.draw(record["measurements"], path)


def read_sections(output: Path) -> Iterator[Section]:
    """Yields module, record and finding of each measured experiment, in order."""
    for name in experiments.EXPERIMENTS:
        if (output / "claims" / f"{name}.json").is_file():
            module, record = experiments.load(name), read_record(output, name)
            yield module, record, module.conclude(record["measurements"])


def read_record(output: Path, name: str) -> dict[str, Any]:
    """Reads a JSON file of `measure.py`.

    Raises:
        InputError: The file is missing or not JSON.
    """
    path = output / "claims" / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from error


def _table(sections: list[Section]) -> str:
    """Returns a table of the claims about text, and one of those about images."""
    parts = []
    for kind, names in (("text", experiments.TEXT), ("images", experiments.IMAGES)):
        rows = [_row(module, finding) for module, _, finding in sections if module.NAME in names]
        if rows:
            parts += [f"| | claim about {kind} | verdict |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(parts)


def _row(module: ModuleType, finding: Finding) -> str:
    link = f"[{finding.title}](#{_anchor(module, finding)})"
    return f"| {module.NUMBER} | {link}: {finding.claim} | {finding.sentence()} |"


def _origin(sections: list[Section]) -> str:
    """Returns the paragraph on machine, date and duration of the measurements."""
    records = [record for _, record, _ in sections]
    dates = sorted({record["date"] for record in records})
    days = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    machines = "; ".join(dict.fromkeys(record["machine"] for record in records))
    total = datetime.timedelta(seconds=round(sum(record["seconds"] for record in records)))
    quick = any(record["quick"] for record in records)
    warning = "**Some of it was measured with `--quick`, which proves nothing.** " if quick else ""
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
    """Returns the anchor that GitHub makes for the heading of a section."""
    heading = f"{module.NUMBER}. {finding.title}".lower()
    kept = "".join(c for c in heading if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
