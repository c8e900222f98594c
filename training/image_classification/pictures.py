"""Two pictures of a training: its curves, and what the model looks at."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ktransformer.models import VisionTransformer
from training.image_classification.fit import scaled
from training.image_classification.images import Images

mpl.use("Agg")  # Draws into files; no display is needed.

from matplotlib import pyplot as plt

_MUTED = "#616e7c"


def draw_curves(histories: dict[int, dict[str, Any]], path: str | Path) -> None:
    """Draws loss and error rate of training and validation by epoch, a line a seed.

    Args:
        histories: What `fit` returned, by seed.
        path: The PNG file to write.
    """
    figure, (losses, errors) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for number, history in enumerate(histories.values()):
        epochs = np.arange(1, len(history["loss"]) + 1)
        for prefix, color, part in (
            ("", "tab:blue", "training (augmented)"),
            ("val_", "tab:orange", "validation"),
        ):
            style = {"color": color, "alpha": 0.8, "label": part if number == 0 else None}
            losses.plot(epochs, history[f"{prefix}loss"], **style)
            errors.plot(epochs, 100 * (1 - np.array(history[f"{prefix}accuracy"])), **style)
    losses.set_ylabel("cross-entropy with smoothed labels, nats")
    errors.set_ylabel("wrong classes, %")
    errors.set_yscale("symlog", linthresh=1)  # Logarithmic from 1% on, so that 0 has a place.
    errors.set_yticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
    errors.set_ylim(0, 100)
    for axis in (losses, errors):
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    losses.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_attention(
    model: VisionTransformer, images: Images, classes: list[str], path: str | Path
) -> None:
    """Draws what each head of the last block looks at in a few images.

    With a class token it is the token's attention to the patches; without one, the mean over what
    the patches look at.

    Args:
        model: The model to look into.
        images: The images, a row each.
        classes: The names of the classes.
        path: The PNG file to write.
    """
    inputs = scaled(images.pixels)
    maps = attention_maps(model, inputs)  # [B, H, rows, columns]
    guesses = np.asarray(model(inputs)).argmax(axis=-1)
    count, heads = maps.shape[:2]
    figure, axes = plt.subplots(
        count, heads + 1, figsize=(1.1 * heads + 1.9, 1.12 * count), squeeze=False
    )
    for row in range(count):
        _show(axes[row, 0], images.pixels[row].squeeze(), cmap="gray")
        label = f"{classes[images.labels[row]]}: {classes[guesses[row]]}"
        axes[row, 0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
        for head in range(heads):
            _show(axes[row, head + 1], maps[row, head], cmap="viridis", vmin=0)
    axes[0, 0].set_title("class: guess", fontsize=9, color=_MUTED)
    for head in range(heads):
        axes[0, head + 1].set_title(f"head {head + 1}", fontsize=9, color=_MUTED)
    figure.subplots_adjust(left=0.17, right=0.98, bottom=0.02, top=0.94, wspace=0.06, hspace=0.06)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def attention_maps(model: VisionTransformer, inputs: np.ndarray) -> np.ndarray:
    """Returns the last block's attention to the patches, laid out as in the image.

    Args:
        model: The model to look into.
        inputs: Float array `[B, h, w, C]`, pixels in [-1, 1].

    Returns:
        Float array `[B, H, rows, columns]`.
    """
    weights = np.asarray(model.attention_weights(inputs)[-1])  # [B, H, T, T]
    weights = weights[:, :, 0, 1:] if model.pooling == "class_token" else weights.mean(axis=2)
    rows = inputs.shape[1] // model.patch_size
    return weights.reshape(*weights.shape[:2], rows, -1)


def _show(axis: Any, picture: np.ndarray, **options: Any) -> None:
    axis.imshow(picture, **options)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
