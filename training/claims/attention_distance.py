"""Claim 16: attention distance grows with depth in a vision Transformer."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.models import VisionTransformer
from training.claims import figures, image_tasks, vision
from training.claims.finding import Finding, table

NAME, NUMBER, SERIAL = "attention_distance", 16, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes, training, and number of examples."""

    seeds: tuple[int, ...] = (1, 2, 3)
    image_size: int = 12
    patch_size: int = 2
    num_layers: int = 6
    num_heads: int = 4
    d_model: int = 32
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 4e-3
    """The better one of claim 13."""
    examples: int = 100
    """Test images whose attention is averaged."""


QUICK = Settings(
    seeds=(1,), image_size=8, num_layers=2, num_heads=2, d_model=8, steps=2, examples=4
)

TASKS = ("digits", "shapes")


def measure(settings: Settings) -> dict[str, Any]:
    """Trains a model per task and seed; measures the distances before and after."""
    found: dict[str, Any] = {"settings": dataclasses.asdict(settings), "runs": {}}
    for name in TASKS:
        task = getattr(image_tasks, name)(settings.image_size)
        make = functools.partial(
            vision.make_model,
            task,
            patch_size=settings.patch_size,
            num_layers=settings.num_layers,
            d_model=settings.d_model,
            num_heads=settings.num_heads,
        )
        trainer = vision.make_trainer(make, task.train, settings.batch_size)
        accuracy = vision.Accuracy(trainer.model)
        some = task.test.inputs[: settings.examples]
        rate = vision.cosine(settings.learning_rate, settings.steps)
        runs = []
        for seed in settings.seeds:
            before = attention_distances(trainer.restart(seed), some)
            trainer.train(steps=settings.steps, learning_rate=rate, seed=seed)
            runs.append(
                {
                    "before": before,
                    "after": attention_distances(trainer.model, some),
                    "accuracy": accuracy(task.test.inputs, task.test.labels),
                }
            )
        found["runs"][name] = runs
    side = settings.image_size // settings.patch_size
    found["uniform"] = float(vision.grid_distances(side).mean() * settings.patch_size)
    return found


def attention_distances(model: VisionTransformer, images: np.ndarray) -> list[list[float]]:
    """Returns the mean attention distance of each head.

    The distance of a patch is the mean of the distances to all patches, in pixels, weighted by its
    attention to them; the class token does not count.

    Args:
        model: A model with a class token, for square images.
        images: Images `[N, h, w, C]`.

    Returns:
        The mean over patches and images, layer by layer: `[layers, heads]`.
    """
    distances = vision.grid_distances(images.shape[1] // model.patch_size) * model.patch_size
    found = []
    for weights in model.attention_weights(images):
        patches = np.asarray(weights)[:, :, 1:, 1:]  # [N, H, P, P]
        patches = patches / patches.sum(axis=-1, keepdims=True)
        heads = (patches * distances).sum(axis=-1).mean(axis=(0, 2))
        found.append(np.round(heads, 4).tolist())
    return found


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the distance of every head against depth, and the mean before and after training."""
    figure, axes = figures.panels(1, rows=2, height=3.4)
    layers = np.arange(measurements["settings"]["num_layers"]) + 1
    for axis, task in zip(axes, TASKS, strict=True):
        runs = measurements["runs"][task]
        for run, marker in zip(runs, figures.MARKERS * len(runs), strict=False):
            heads = np.array(run["after"])
            places = np.repeat(layers, heads.shape[1])
            axis.scatter(
                places, heads.ravel(), s=16, marker=marker, color=figures.MUTED, alpha=0.55, lw=0
            )
        axis.scatter([], [], s=16, color=figures.MUTED, alpha=0.55, label="a head, trained")
        for index, (moment, name) in enumerate(
            (("after", "mean, trained"), ("before", "mean, before training"))
        ):
            means = [np.mean(run[moment], axis=1) for run in runs]
            figures.band(axis, layers, means, name, index)
        axis.axhline(
            measurements["uniform"], color=figures.INK, linestyle=":", label="equal weights"
        )
        drawn = [run[moment] for run in runs for moment in ("before", "after")]
        spread = max(np.abs(np.array(drawn) - measurements["uniform"]).max(), 0.1)
        axis.set_ylim(
            measurements["uniform"] - 2.2 * spread, measurements["uniform"] + 1.2 * spread
        )  # Room for the legend below.
        axis.set_xticks(layers)
        figures.label(
            axis, task, "layer, 1 is nearest the image", "mean attention distance, pixels"
        )
        figures.legend(axis, loc="lower center", ncols=2)
    figures.save(figure, path)


def slopes(measurements: dict[str, Any], task: str, moment: str) -> np.ndarray:
    """Returns the growth of the mean distance per layer, fitted to all layers: `[seeds]`."""
    return np.array(
        [
            np.polyfit(np.arange(len(run[moment])), np.mean(run[moment], axis=1), 1)[0]
            for run in measurements["runs"][task]
        ]
    )


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the growth of the mean attention distance with depth, after training.

    The distance grows on a task if the growth per layer, the mean over the seeds, is more than two
    standard errors, and in every seed the last layer's mean distance is above the first's by a
    tenth of the distance of equal weights or more: training is to change where heads look, not the
    second decimal. The claim holds if it grows on both tasks, holds only on one if it grows there,
    and otherwise does not hold.
    """
    settings = measurements["settings"]
    ends = {
        task: np.array([[np.mean(run["after"][0]), np.mean(run["after"][-1])] for run in runs])
        for task, runs in measurements["runs"].items()
    }
    growth = {task: slopes(measurements, task, "after") for task in TASKS}
    grown = [
        task
        for task in TASKS
        if vision.significant(growth[task])
        and (np.diff(ends[task]) >= measurements["uniform"] / 10).all()
    ]
    condition = ""
    if len(grown) == 1:
        (other,) = set(TASKS) - set(grown)
        condition = (
            f"the images are {grown[0]}: with {other} the distance changes by "
            f"{growth[other].mean():+.2f} pixels per layer"
        )
    verdict = ("does not hold", "holds only when", "holds")[len(grown)]
    rows = []
    for task, runs in measurements["runs"].items():
        spread = np.mean([np.ptp(run["after"], axis=1) for run in runs], axis=0)
        share = np.mean([run["accuracy"] for run in runs])
        first, last = ends[task].mean(axis=0)
        rows.append([task, f"{first:.2f}", f"{last:.2f}", f"{growth[task].mean():+.2f}"])
        rows[-1] += [f"{spread[0]:.2f}", f"{spread[-1]:.2f}", f"{share:.1%}"]
    far = max(
        np.abs(np.array(run["after"]) - measurements["uniform"]).max()
        for runs in measurements["runs"].values()
        for run in runs
    )
    before = np.mean([slopes(measurements, task, "before") for task in TASKS])
    side = settings["image_size"] // settings["patch_size"]
    return Finding(
        title="Attention distance and depth",
        claim=(
            "Attention distance grows with depth: the first layers of a vision Transformer look "
            "near and far, the last ones far."
        ),
        measured=(
            f"Vision Transformers of {settings['num_layers']} layers, {settings['num_heads']} "
            f"heads and width {settings['d_model']}, on digits and on small shapes at any place, "
            f"of {settings['image_size']} pixels in {side} x {side} patches, {settings['steps']} "
            f"updates, {len(settings['seeds'])} seeds. The attention distance of a head: the "
            "distance from a patch to the patches that it attends to, in pixels, weighted by the "
            f"attention, the mean over all patches of {settings['examples']} test images. It grows "
            "if the last layer's is above the first's by a tenth of the distance of equal weights."
        ),
        outcome=(
            "With equal weights the distance would be "
            f"{measurements['uniform']:.2f} pixels. Before training it changes by {before:+.2f} "
            "pixels per layer. After training no head is farther from equal weights than "
            f"{far:.2f} pixels. The mean distance of the first and of the last layer, the growth "
            "per layer, and how far the heads of these two layers are apart, in pixels:\n\n"
            + table(
                ["images", "first", "last", "per layer", "apart, first", "apart, last", "accuracy"],
                rows,
            )
        ),
        verdict=verdict,
        condition=condition,
        explanation=(
            "Attention reaches the whole image in every layer; a convolution must stack layers for "
            "that. So a growing distance is nothing that the architecture asks for: it is learned, "
            "if at all. Before training the weights are nearly equal, and the distance is the mean "
            "distance of two patches. To be below it, a head must find neighbours through their "
            "position embeddings; to be above it, it must look past them. In the models of "
            "Dosovitskiy et al., trained on millions of images, some heads of the first layers "
            "look near, like convolutions, and those of the last layers far. Raghu et al. found "
            "that with less data the first layers do not learn to look near. The models here saw a "
            "thousand to three thousand images; a verdict about them is one about small data. And "
            "the mean distance says where a head looks, not what it takes from there."
        ),
        alt=(
            "Two panels, digits and shapes: the mean attention distance of every head against the "
            "layer, with lines for the mean before and after training and for equal weights."
        ),
        reference=(
            "Dosovitskiy et al. 2021, section 4.5 and figure 7; Raghu et al. 2021, Do Vision "
            "Transformers See Like Convolutional Neural Networks?"
        ),
    )
