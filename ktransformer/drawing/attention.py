"""A picture of attention weights, a panel for each head."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ktransformer.drawing.canvas import INK, MUTED, new_figure, plain_text, to_png

_MOST = 64  # Pieces of a side: more are too small to read, and take gigabytes.


def draw_weights(
    weights: Any,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    title: str,
    legend: str,
    dpi: int = 150,
) -> bytes:
    """Draws attention weights, two heads in a row.

    Args:
        weights: `[H, T, S]`, in [0, 1].
        sources: The S pieces that are attended to.
        targets: The T pieces that attend. Of each side the first 64 are drawn.
        title: Stands above the panels.
        legend: What the weights are, for the colour bar.
        dpi: Pixels of an inch.

    Returns:
        The content of a PNG file.

    Raises:
        InputError: Matplotlib is not installed.
    """
    sources, targets = sources[:_MOST], targets[:_MOST]
    weights = np.asarray(weights)[:, : len(targets), : len(sources)]
    with plain_text("A picture of the attention"):
        return to_png(_draw(weights, sources, targets, title, legend), dpi)


def _draw(
    weights: np.ndarray, sources: Sequence[str], targets: Sequence[str], title: str, legend: str
) -> Any:
    rows = -(-len(weights) // 2)
    width, height = max(9.0, 0.9 + 0.8 * len(sources)), 1.3 + rows * (0.9 + 0.27 * len(targets))
    figure = new_figure(width, height, "A picture of the attention")
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("blues", ["#f5f8fb", "#7fb3d5", "#0b3c5d"])
    axes = figure.subplots(rows, 2, squeeze=False)
    for head, axis in enumerate(axes.flat):
        if head >= len(weights):
            axis.set_axis_off()
            continue
        image = axis.imshow(weights[head], cmap=colors, vmin=0, vmax=1, aspect="auto")
        axis.set_title(f"head {head + 1}", fontsize=10, color=MUTED)
        axis.set_xticks(range(len(sources)), sources)
        axis.set_yticks(range(len(targets)), targets)
        axis.tick_params(length=0, labelsize=9, labelcolor=INK)
        axis.spines[:].set_visible(False)
        # White lines between the cells.
        axis.set_xticks(np.arange(len(sources) - 1) + 0.5, minor=True)
        axis.set_yticks(np.arange(len(targets) - 1) + 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=1)
        axis.tick_params(which="minor", length=0)
    figure.suptitle(title, fontsize=13, color=INK)
    figure.supxlabel("source piece", fontsize=10, color=MUTED)
    figure.supylabel("predicted target piece", fontsize=10, color=MUTED)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, pad=0.02)
    bar.set_label(legend, fontsize=10, color=MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=9, labelcolor=MUTED)
    return figure
