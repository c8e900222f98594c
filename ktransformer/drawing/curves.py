"""The curves of a training: its metrics against the epochs."""

from collections.abc import Mapping, Sequence

from ktransformer.drawing.canvas import COLORS, GRID, INK, MUTED, new_figure, to_png

# A panel for each, with the validation's own curve beside it; perplexity is `exp` of a loss.
_PANELS = ("loss", "perplexity", "accuracy", "bleu", "chrf", "exact_match")
_NAMES = {"bleu": "BLEU", "chrf": "chrF", "exact_match": "exact match"}
_SCORES = {"bleu", "chrf", "exact_match"}  # Of validation text alone.


def draw_curves(history: Mapping[str, Sequence[float]]) -> bytes:
    """Draws the metrics of each epoch, of the training and the validation text.

    Args:
        history: As a run has it, `{"loss": [...], "val_loss": [...], ...}`; what has fewer than two
            values has no curve.

    Returns:
        The content of a PNG file.

    Raises:
        InputError: Matplotlib is not installed.
        ValueError: No metric has two values.
    """
    panels = {name: curves for name in _PANELS if (curves := _curves(history, name))}
    if not panels:
        raise ValueError("history must have a metric of two epochs at least; got none.")
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(4.2 * columns, 2.9 * rows, "curves.png")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (name, curves) in zip(axes, panels.items(), strict=False):
        for color, (label, values) in zip(COLORS, curves.items(), strict=False):
            epochs = range(1, len(values) + 1)
            axis.plot(epochs, values, color=color, label=label, linewidth=1.8, marker=".")
        axis.set_title(_NAMES.get(name, name), fontsize=11, color=INK)
        axis.set_xlabel("epoch", fontsize=9, color=MUTED)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=8, colors=MUTED)
        axis.grid(color=GRID)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9, labelcolor=INK)
    for axis in list(axes):
        axis.set_axis_off()
    return to_png(figure)


def _curves(history: Mapping[str, Sequence[float]], name: str) -> dict[str, Sequence[float]]:
    found = {"validation": history.get(f"val_{name}", ())}
    if name not in _SCORES:
        found = {"training": history.get(name, ()), **found}
    return {label: values for label, values in found.items() if len(values) > 1}
