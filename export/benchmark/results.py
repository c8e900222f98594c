"""Sums up cells: ratios, the verdict, and the page `results.md`."""

from collections.abc import Sequence
from typing import Any

from export.benchmark.measuring import Cell
from export.benchmark.registry import BASE, ENGINES, PRODUCT, RATIOS
from export.benchmark.tables import table

Row = dict[str, Any]
_CELL_FIELDS = ("model", "beam", "batch", "count")


def by_cell(rows: Sequence[Row]) -> dict[Cell, dict[str, Row]]:
    """Groups rows by cell, then by engine."""
    cells: dict[Cell, dict[str, Row]] = {}
    for row in rows:
        cell = Cell(**{field: row[field] for field in _CELL_FIELDS})
        cells.setdefault(cell, {})[row["engine"]] = row
    return cells


def ratio(rows: dict[str, Row], peer: str) -> float | None:
    """Returns a cell's ratio of the best of ours to the best of a peer, a key of `RATIOS`."""
    ours, theirs = (
        [rows[name]["tokens_per_second"] for name in names if name in rows]
        for names in RATIOS[peer]
    )
    return max(ours) / max(theirs) if ours and theirs else None


def worst(rows: Sequence[Row], model: str, peer: str) -> tuple[float, Cell] | None:
    """Returns the least ratio of a model's cells, and where it is."""
    found = [
        (value, cell)
        for cell, engines in by_cell(rows).items()
        if cell.model == model and (value := ratio(engines, peer)) is not None
    ]
    return min(found, key=lambda pair: pair[0]) if found else None


def verdict(rows: Sequence[Row], models: Sequence[str], peer: str = "CTranslate2 float32") -> str:
    """Says in one line where ours is worst, model by model."""
    parts = []
    for model in models:
        found = worst(rows, model, peer)
        parts.append(f"{model} {found[0]:.2f} ({found[1]})" if found else f"{model} not measured")
    return f"worst ratio to {peer}: {', '.join(parts)}"


def product_verdicts(rows: Sequence[Row], models: Sequence[str]) -> str:
    """Says in a line for each of our exports, as the product runs it, where it is worst."""
    return "\n".join(verdict(rows, models, peer) for peer in [*RATIOS][:PRODUCT])


def page(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Writes the Markdown page of a run.

    Args:
        rows: What `measure_cell` returned, of all cells.
        about: `command`, `date`, `machine` and `versions`.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    parts = [
        "# Decoding, measured against the peers",
        f"Written by `{about['command']}` on {about['date']}; [README.md](README.md) says what is "
        f"measured and how. {about['machine']}. {about['versions']}.",
    ]
    for model in models:
        of_model = {cell: found for cell, found in by_cell(rows).items() if cell.model == model}
        parts += [
            f"## {_titles().get(model, model)}",
            "Tokens a second, median (ratio to CTranslate2 float32):",
            _speeds(of_model),
            "The better of our exports against the better of theirs:",
            _ratios(of_model),
            _costs(of_model),
        ]
    parts += ["## Worst cells", "\n".join(f"- {verdict(rows, models, peer)}" for peer in RATIOS)]
    return "\n\n".join(parts) + "\n"


def _titles() -> dict[str, str]:
    return {
        "T": "Size T: 4+4 layers, width 128, feed-forward 256, vocabulary 10,000; 32 tokens each",
        "B": "Size B: 6+6 layers, width 512, feed-forward 2048, vocabulary 32,000; 32 tokens each",
        "trained": "A trained model: every sentence ends by itself",
    }


def _speeds(cells: dict[Cell, dict[str, Row]]) -> str:
    """Makes the table of speeds: an engine a row, a cell a column."""

    def field(rows: dict[str, Row], name: str) -> str:
        if name not in rows:
            return ""
        speed = rows[name]["tokens_per_second"]
        shown = f"{speed:,.0f}"
        return f"{shown} ({speed / rows[BASE]['tokens_per_second']:.2f})" if BASE in rows else shown

    return table(
        ["engine", *map(str, cells)],
        [
            [ENGINES[name].title, *(field(rows, name) for rows in cells.values())]
            for name in _engines(cells)
        ],
    )


def _ratios(cells: dict[Cell, dict[str, Row]]) -> str:
    """Makes the table of ratios: a peer a row, a cell a column."""

    def field(rows: dict[str, Row], peer: str) -> str:
        value = ratio(rows, peer)
        return "" if value is None else f"{value:.2f}"

    return table(
        ["ours to", *map(str, cells)],
        [[peer, *(field(rows, peer) for rows in cells.values())] for peer in RATIOS],
    )


def _costs(cells: dict[Cell, dict[str, Row]]) -> str:
    """Makes the table of what an engine costs besides, an engine a row."""
    lines = []
    for name in _engines(cells):
        rows = [found[name] for found in cells.values() if name in found]
        single = {row["beam"]: row["median_latency"] for row in rows if row["batch"] == 1}
        latency = [f"{1e3 * single[beam]:.1f}" for beam in sorted(single) if single[beam]]
        same = [row["identical"] for row in rows if row["identical"] is not None]
        lines.append(
            [
                ENGINES[name].title,
                f"{max(row['import_seconds'] for row in rows):.2f}",
                f"{max(row['load_seconds'] for row in rows):.3f}",
                f"{max(row['first_call_seconds'] for row in rows):.2f}",
                " / ".join(latency),
                f"{max(row['resident_mb'] for row in rows):.0f}",
                _range(same) if name != "kerashub-xla" else "",
                f"{sum(row['clean'] for row in rows)}/{sum(row['samples'] for row in rows)}",
            ]
        )
    beams = " / ".join(
        dict.fromkeys("greedy" if cell.beam == 1 else f"beam {cell.beam}" for cell in cells)
    )
    head = ["engine", "import, s", "load, s", "first call, s", f"batch 1, p50, ms: {beams}"]
    return table([*head, "resident, MB", "identical to base", "clean samples"], lines)


def _range(shares: Sequence[float]) -> str:
    if not shares:
        return ""
    low, high = f"{min(shares):.2f}", f"{max(shares):.2f}"
    return low if low == high else f"{low} to {high}"


def _engines(cells: dict[Cell, dict[str, Row]]) -> list[str]:
    """Lists the engines that were measured, in the registry's order."""
    return [name for name in ENGINES if any(name in rows for rows in cells.values())]
