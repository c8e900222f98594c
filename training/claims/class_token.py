"""Claim 13: a class token against the mean over the patches."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from training.claims import figures, image_tasks, vision
from training.claims.finding import Finding, table

NAME, NUMBER, SERIAL = "class_token", 13, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and training."""

    seeds: tuple[int, ...] = (1, 2, 3)
    learning_rates: tuple[float, ...] = (1e-3, 4e-3)
    """Peaks of the schedule; each way of pooling is judged at its best."""
    image_size: int = 16
    patch_size: int = 4
    num_layers: int = 2
    d_model: int = 32
    steps: int = 300
    batch_size: int = 32


QUICK = Settings(seeds=(1,), learning_rates=(1e-3,), num_layers=1, d_model=8, steps=2)

TASKS = ("digits", "shapes")
POOLINGS = ("class_token", "mean")
NAMES = {"class_token": "class token", "mean": "mean"}


def measure(settings: Settings) -> dict[str, Any]:
    """Trains a model per task, pooling, learning rate and seed."""
    runs = {}
    for name in TASKS:
        task = getattr(image_tasks, name)(settings.image_size)
        for pooling in POOLINGS:
            make = functools.partial(
                vision.make_model,
                task,
                patch_size=settings.patch_size,
                num_layers=settings.num_layers,
                d_model=settings.d_model,
                pooling=pooling,
            )
            trainer = vision.make_trainer(make, task.train, settings.batch_size)
            accuracy = vision.Accuracy(trainer.model)
            shares = []
            for peak in settings.learning_rates:
                rate = vision.cosine(peak, settings.steps)
                shares.append([])
                for seed in settings.seeds:
                    trainer.fit(steps=settings.steps, learning_rate=rate, seed=seed)
                    shares[-1].append(accuracy(task.test.inputs, task.test.labels))
            runs[f"{name}, {pooling}"] = shares
    return {"settings": dataclasses.asdict(settings), "runs": runs}


def best(measurements: dict[str, Any], task: str, pooling: str) -> np.ndarray:
    """Returns the seeds' accuracies at the learning rate with the best mean: `[seeds]`."""
    shares = np.array(measurements["runs"][f"{task}, {pooling}"])
    return shares[shares.mean(axis=1).argmax()]


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the accuracy of both poolings against the learning rate, a panel per task."""
    rates = measurements["settings"]["learning_rates"]
    figure, axes = figures.panels(1, rows=2, height=3.0)
    for axis, task in zip(axes, TASKS, strict=True):
        for index, pooling in enumerate(POOLINGS):
            runs = np.array(measurements["runs"][f"{task}, {pooling}"]).T
            figures.band(axis, rates, runs, NAMES[pooling], index)
        axis.set_xscale("log")
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axis.minorticks_off()
        figures.label(axis, task, "peak learning rate", "accuracy on test images")
        figures.legend(axis)
    figures.save(figure, path)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the gain of the class token over the mean, each at its best learning rate.

    The class token is better on a task if the mean gain over the seeds is more than two standard
    errors. The claim holds if it is better on both tasks, holds only on one if it is better there,
    and otherwise does not hold.
    """
    settings = measurements["settings"]
    gains = {
        task: best(measurements, task, "class_token") - best(measurements, task, "mean")
        for task in TASKS
    }
    better = [task for task in TASKS if vision.significant(gains[task])]
    worse = [task for task in TASKS if vision.significant(-gains[task])]
    condition = ""
    if len(better) == 1:
        (other,) = set(TASKS) - set(better)
        condition = (
            f"the images are {better[0]}: with {other} the difference is {gains[other].mean():+.1%}"
        )
    verdict = ("does not hold", "holds only when", "holds")[len(better)]
    rows = [
        [
            f"{task}, {NAMES[pooling]}",
            *(f"{np.mean(run):.1%}" for run in measurements["runs"][f"{task}, {pooling}"]),
        ]
        for task in TASKS
        for pooling in POOLINGS
    ]
    differences = ", ".join(
        f"{gains[task].mean():+.1%} on {task} (the seeds from {gains[task].min():+.1%} to "
        f"{gains[task].max():+.1%})"
        for task in TASKS
    )
    reverse = f" The mean is better on {' and '.join(worse)}." if worse else ""
    count = (settings["image_size"] // settings["patch_size"]) ** 2
    return Finding(
        title="Class token or mean",
        claim=(
            "A class token gathers an image better than the mean over the patches, because it can "
            "attend to the ones that matter."
        ),
        measured=(
            f"Vision Transformers of {settings['num_layers']} layers, width "
            f"{settings['d_model']}, on images of {settings['image_size']} pixels in {count} "
            "patches: digits, which fill the image, and small shapes at any place, of which most "
            "patches show nothing. The option `pooling`: the class sees the encoder's output at "
            "an extra first position, or the mean over the patches without one. "
            f"{settings['steps']} updates with each of these peak learning rates: "
            f"{', '.join(f'{rate:g}' for rate in settings['learning_rates'])}; the better one "
            f"counts for each. {len(settings['seeds'])} seeds."
        ),
        outcome=(
            "The accuracy of the class token minus that of the mean, each at its better learning "
            f"rate, is {differences}.{reverse} Mean accuracy over the seeds:\n\n"
            + table(
                ["images, pooling", *(f"rate {rate:g}" for rate in settings["learning_rates"])],
                rows,
            )
        ),
        verdict=verdict,
        condition=condition,
        explanation=(
            "The argument for the token is that a mean counts empty patches as much as the others. "
            "But the mean is taken after the layers: by then each patch has attended to the "
            "others, and an empty one can carry the class as well as any, or a vector near 0. "
            "The token must learn where to look, and its gradient reaches the patches only through "
            "attention, whereas the mean passes a gradient to every patch at once. The token costs "
            f"one more position, here {1 / count:.0%} more. Dosovitskiy et al. took it from BERT, "
            "found the mean as good if it gets its own learning rate, and first believed "
            "otherwise, because they had tried only one: hence the two rates here. Larger "
            "models of later years use the mean, or one attention over all patches at the end."
        ),
        alt=(
            "Two panels, digits and shapes: the accuracy with a class token and with the mean "
            "over the patches, at each learning rate."
        ),
        reference=(
            "Dosovitskiy et al. 2021, section 3.1 and appendix D.3; Beyer et al. 2022, Better "
            "Plain ViT Baselines for ImageNet-1k."
        ),
    )
