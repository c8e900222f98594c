"""Sums up what was measured of training: ratios, the goals, and the page `results.md`."""

from collections.abc import Sequence
from typing import Any

from export.benchmark.tables import table
from training.benchmark.training_registry import (
    ENGINES,
    MEMORY_GOAL,
    MEMORY_PEER,
    OWN_MEMORY_GOAL,
    SPEED_GOAL,
)

Row = dict[str, Any]


def by_size(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Groups rows by size, then by engine."""
    sizes: dict[str, dict[str, Row]] = {}
    for row in rows:
        sizes.setdefault(row["size"], {})[row["engine"]] = row
    return sizes


def fastest(rows: dict[str, Row], *, ours: bool) -> Row | None:
    """Returns the row of our fastest engine, or of the fastest peer, by `relative`."""
    found = [
        row for name, row in rows.items() if ENGINES[name].judged and ENGINES[name].ours is ours
    ]
    return max(found, key=lambda row: row["relative"], default=None)


def verdict(rows: Sequence[Row]) -> list[str]:
    """Says for each size how our fastest engine stands to the goals, a line each."""
    lines = []
    for size, found in by_size(rows).items():
        ours, peer = (fastest(found, ours=whose) for whose in (True, False))
        if ours is None or peer is None:
            lines.append(f"{size}: ours or the peers were not measured")
            continue
        compared = [ours, peer, *([found[MEMORY_PEER]] if MEMORY_PEER in found else [])]
        quiet = all(row["clean"] >= 2 for row in compared)
        speed = ours["relative"] / peer["relative"]
        line = (
            f"{size}: {ENGINES[ours['engine']].title} at {speed:.2f} times the best peer, "
            f"{ENGINES[peer['engine']].title} (goal {SPEED_GOAL}, "
            f"{_outcome(speed >= SPEED_GOAL, quiet)})"
        )
        if MEMORY_PEER in found:
            whole, own = (
                ours[field] / found[MEMORY_PEER][field] for field in ("peak_mb", "own_peak_mb")
            )
            line += (
                f"; {whole:.2f} of PyTorch's peak memory (goal {MEMORY_GOAL}, "
                f"{_outcome(whole <= MEMORY_GOAL)}), {own:.2f} beyond the imports "
                f"(goal {OWN_MEMORY_GOAL}, {_outcome(own <= OWN_MEMORY_GOAL)})"
            )
        lines.append(line)
    return lines


def _outcome(met: bool, quiet: bool = True) -> str:
    if not quiet:
        return "undecided: the machine was not quiet"
    return "met" if met else "missed"


def page(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Writes the Markdown page of a run.

    Args:
        rows: What was measured, an engine on a size each.
        about: `command`, `date`, `machine`, `batch_tokens` and `versions`.
    """
    parts = [
        "# Training, measured against the peers",
        f"Written by `{about['command']}` on {about['date']}; [README.md](README.md) says what is "
        f"measured and how. {about['machine']}. {about['versions']}.",
        "\n".join(f"- {line}." for line in verdict(rows)),
    ]
    for size, found in by_size(rows).items():
        first = next(iter(found.values()))
        parts += [
            f"## Size {size}",
            f"{first['batches']} of the batches of {about['batch_tokens']} tokens a side, of which "
            f"{first['real']:.0%} are real. The machine's matrix product: "
            f"{first['ceiling'] / 1e9:.0f} GFLOP/s.",
            _table(found),
        ]
    return "\n\n".join(parts) + "\n"


def _table(rows: dict[str, Row]) -> str:
    peer = fastest(rows, ours=False)
    memory = rows.get(MEMORY_PEER)

    def ratio(row: Row, base: Row | None, field: str) -> str:
        return "" if base is None else f"{row[field] / base[field]:.2f}"

    head = ["engine", "tokens/s", "to the best peer", "least to most, s", "a core second"]
    head += [
        "share of the product",
        "peak, MB",
        "to PyTorch's",
        "beyond the imports, MB",
        "to PyTorch's",
        "first pass, s",
        "loss",
        "clean samples",
    ]
    return table(
        head,
        [
            [
                ENGINES[name].title,
                f"{row['tokens_per_second']:,.0f}",
                ratio(row, peer, "relative"),
                f"{row['least_seconds']:.2f} to {row['most_seconds']:.2f}",
                f"{row['tokens'] / row['core_seconds']:,.0f}",
                f"{row['share']:.2f}",
                f"{row['peak_mb']:,.0f}",
                ratio(row, memory, "peak_mb"),
                f"{row['own_peak_mb']:,.0f}",
                ratio(row, memory, "own_peak_mb"),
                f"{row['first_pass_seconds']:.1f}",
                f"{row['loss']:.2f}",
                f"{row['clean']}/{row['samples']}",
            ]
            for name, row in rows.items()
        ],
    )
