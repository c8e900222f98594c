"""The style of the pictures: colours, lines with a band, legends, PNG files."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")  # Draws into files; no display is needed.
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#0b5c8f", "#c8501e", "#2f7d4f", "#7a4fa3", "#8a6d00", "#5b6670")
"""Distinguishable with any colour vision, in this order; lines also differ by marker."""
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, MUTED = "#1f2933", "#616e7c"


def panels(columns: int, *, rows: int = 1, height: float = 3.7) -> tuple[Figure, list[Axes]]:
    """Makes a figure of panels, at most 11 inches wide.

    Args:
        columns: Panels per row, 1 to 3.
        rows: Number of rows.
        height: Height of a row, in inches.
    """
    width = {1: 6.5, 2: 9.5, 3: 11.0}[columns]
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, rows * height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.grid(color="#d9dee3", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9, labelcolor=INK)
    return figure, list(axes.flat)


def label(axis: Axes, title: str, x: str, y: str) -> None:
    """Sets the title and the axis labels of a panel; `x` and `y` include the unit."""
    axis.set_title(title, fontsize=10.5, color=INK)
    axis.set_xlabel(x, fontsize=9.5, color=MUTED)
    axis.set_ylabel(y, fontsize=9.5, color=MUTED)


def band(
    axis: Axes,
    x: Sequence[float],
    runs: Sequence[Sequence[float]],
    name: str,
    index: int,
    *,
    marker: bool = True,
    geometric: bool = False,
    **style: Any,
) -> None:
    """Draws the mean over seeds as a line and the range of the seeds as a band.

    Args:
        axis: The panel.
        x: P coordinates.
        runs: Values `[seeds, P]`.
        name: Label of the line in the legend.
        index: Index of the colour and the marker.
        marker: Whether to mark each point.
        geometric: Whether to draw the geometric mean, for a logarithmic axis on which the seeds
            differ by factors.
        **style: Arguments of `Axes.plot`.
    """
    values = np.asarray(runs, float)
    color = COLORS[index % len(COLORS)]
    shape = MARKERS[index % len(MARKERS)] if marker else None
    options = {"linewidth": 1.6, "markersize": 4.5, "color": color, "marker": shape, **style}
    middle = np.exp(np.log(values).mean(axis=0)) if geometric else values.mean(axis=0)
    axis.plot(x, middle, label=name, **options)
    axis.fill_between(
        x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.18, linewidth=0
    )


def legend(axis: Axes, **options: Any) -> None:
    """Adds a legend to a panel."""
    axis.legend(fontsize=8.5, frameon=False, labelcolor=INK, **options)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a PNG with at most 256 colours, a third of the size of a full-colour one."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png", facecolor="white")
    plt.close(figure)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            path, format="png", optimize=True
        )


def ranges(axis: Axes, names: Sequence[str], runs: Sequence[Sequence[float]], index: int) -> None:
    """Draws named values as bars: the mean over seeds, and their range as a black line.

    Args:
        axis: The panel; the names stand on its y-axis, the first one on top.
        names: N names.
        runs: Values `[N, seeds]`.
        index: Index of the colour.
    """
    values = np.asarray(runs, float)
    means = values.mean(axis=1)
    spread = np.stack([means - values.min(axis=1), values.max(axis=1) - means])
    places = range(len(names))
    axis.barh(places, means, xerr=spread, color=COLORS[index % len(COLORS)], alpha=0.85, height=0.6)
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
