"""A picture of what the decoder looks at in the source, piece by piece."""

from pathlib import Path

import matplotlib
import numpy as np
import tensorflow as tf

from ktransformer.files import new_file
from ktransformer.tasks import Translator
from ktransformer.text import END_ID, PAD_ID, START_ID

matplotlib.use("Agg")  # Draws into files; no display is needed.
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

_INK, _MUTED = "#1f2933", "#616e7c"
_COLORS = LinearSegmentedColormap.from_list("paper to blue", ["#f5f8fb", "#7fb3d5", "#0b3c5d"])


def draw_attention(translator: Translator, text: str, path: str | Path) -> None:
    """Translates a text and draws the cross-attention of the last decoder block.

    Args:
        translator: The translator to look into.
        text: What to translate; the picture's font has to know its letters.
        path: The PNG file to write.
    """
    source = translator.to_ids(tf.constant([text]))  # [1, S]
    target = translator.ids(source)["ids"]
    target = target[target != PAD_ID][None]  # [1, T]
    # Row t of the weights belongs to the prediction of target piece t, made from those before.
    inputs = tf.concat([[[START_ID]], target[:, :-1]], axis=1)
    weights = translator.model.cross_attention_weights({"source": source, "target": inputs})
    _draw(
        np.asarray(weights[-1][0]),  # [H, T, S]
        _names(translator, source),
        _names(translator, target),
        f"{text}  →  {translator.tokenizer.decode(target)[0].numpy().decode()}",
        path,
    )


def _names(translator: Translator, ids: tf.Tensor) -> list[str]:
    """Returns the pieces of ids `[1, T]`, a leading space as `␣`."""
    ids = ids.numpy()[0]
    pieces = translator.tokenizer.pieces(ids)
    return [
        "end" if i == END_ID else piece.replace("\N{LOWER ONE EIGHTH BLOCK}", "␣")
        for i, piece in zip(ids, pieces, strict=True)
    ]


def _draw(
    weights: np.ndarray, sources: list[str], targets: list[str], title: str, path: str | Path
) -> None:
    """Draws one panel for each head, two in a row."""
    heads = len(weights)
    rows = -(-heads // 2)
    size = (max(9.0, 0.9 + 0.8 * len(sources)), 1.3 + rows * (0.9 + 0.27 * len(targets)))
    figure, axes = plt.subplots(
        rows, 2, figsize=size, squeeze=False, layout="constrained", facecolor="white"
    )
    for head, axis in enumerate(axes.flat):
        if head >= heads:
            axis.set_axis_off()
            continue
        image = axis.imshow(weights[head], cmap=_COLORS, vmin=0, vmax=1, aspect="auto")
        axis.set_title(f"head {head + 1}", fontsize=10, color=_MUTED)
        axis.set_xticks(range(len(sources)), sources)
        axis.set_yticks(range(len(targets)), targets)
        axis.tick_params(length=0, labelsize=9, labelcolor=_INK)
        axis.spines[:].set_visible(False)
        # White lines between the cells.
        axis.set_xticks(np.arange(len(sources) - 1) + 0.5, minor=True)
        axis.set_yticks(np.arange(len(targets) - 1) + 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=1)
        axis.tick_params(which="minor", length=0)
    figure.suptitle(title, fontsize=13, color=_INK)
    figure.supxlabel("source piece", fontsize=10, color=_MUTED)
    figure.supylabel("predicted target piece", fontsize=10, color=_MUTED)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, pad=0.02)
    bar.set_label("cross-attention, last decoder block", fontsize=10, color=_MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=9, labelcolor=_MUTED)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)
