"""Claim 14: smaller patches are more accurate and cost more."""

import dataclasses
import functools
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from training.claims import figures, image_tasks, vision
from training.claims.block_costs import multiply_adds
from training.claims.finding import Finding, table

NAME, NUMBER, SERIAL = "patch_size", 14, True


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and training."""

    seeds: tuple[int, ...] = (1, 2, 3)
    image_size: int = 16
    patch_sizes: tuple[int, ...] = (16, 8, 4, 2)
    """Height and width of a patch, in pixels; each is half of the one before."""
    num_layers: int = 2
    d_model: int = 32
    checkpoints: tuple[int, ...] = (30, 60, 120, 250)
    """Numbers of updates after which the accuracy is measured; the last one ends the training."""
    batch_size: int = 32
    learning_rate: float = 2e-3


QUICK = Settings(seeds=(1,), patch_sizes=(16, 8), num_layers=1, d_model=8, checkpoints=(1, 2))

TASKS = ("digits", "shapes")


def measure(settings: Settings) -> dict[str, Any]:
    """Counts the arithmetic of each patch size, trains a model per task and seed, and times it."""
    found: dict[str, Any] = {"settings": dataclasses.asdict(settings), "counted": [], "runs": {}}
    for task in TASKS:
        found["runs"][task] = []
        for patch_size in settings.patch_sizes:
            counted, runs = _train(settings, task, patch_size)
            found["runs"][task].append(runs)
            if task == TASKS[0]:
                found["counted"].append(counted)
    return found


def _train(settings: Settings, name: str, patch_size: int) -> tuple[int, list[dict[str, Any]]]:
    """Returns the encoder's multiply-adds for an image, and a run per seed."""
    task = getattr(image_tasks, name)(settings.image_size)
    make = functools.partial(
        vision.make_model,
        task,
        patch_size=patch_size,
        num_layers=settings.num_layers,
        d_model=settings.d_model,
        pooling="mean",  # No class token: 1, 4, 16, ... positions.
    )
    trainer = vision.make_trainer(make, task.train, settings.batch_size)
    accuracy = vision.Accuracy(trainer.model)
    model = trainer.model
    spec = tf.TensorSpec((1, (settings.image_size // patch_size) ** 2, settings.d_model))
    counted = multiply_adds(tf.function(lambda vectors: model.encoder(vectors)), spec)
    trainer.train(steps=1, learning_rate=0.0, seed=0)  # Compiles outside the time.
    runs = []
    for seed in settings.seeds:
        trainer.restart(seed)
        shares, seconds, done = [], 0.0, 0
        for end in settings.checkpoints:
            start = time.process_time()
            trainer.train(
                steps=end - done,
                learning_rate=functools.partial(_rate, settings, done),
                seed=(seed, end),
            )
            seconds += time.process_time() - start
            shares.append(accuracy(task.test.inputs, task.test.labels))
            done = end
        runs.append({"accuracy": shares, "seconds": seconds / done})
    return counted, runs


def _rate(settings: Settings, done: int, number: int) -> float:
    """Returns a constant learning rate after a warm-up over a tenth of the updates."""
    warmup = max(1, settings.checkpoints[-1] // 10)
    return settings.learning_rate * min(1.0, (done + number + 1) / warmup)


def formula(settings: dict[str, Any], patch_size: int) -> int:
    """Returns the encoder's multiply-adds for an image with N patches: 2 N^2 d + 8 N d^2 a layer.

    The inner layer of the feed-forward network has 2 d features.
    """
    count, width = (settings["image_size"] // patch_size) ** 2, settings["d_model"]
    return settings["num_layers"] * (2 * count**2 * width + 8 * count * width**2)


def final(measurements: dict[str, Any], task: str) -> np.ndarray:
    """Returns the accuracy at the end of the training: `[patch sizes, seeds]`."""
    return np.array([[run["accuracy"][-1] for run in runs] for runs in measurements["runs"][task]])


def seconds_per_update(measurements: dict[str, Any]) -> np.ndarray:
    """Returns the processor seconds of an update: `[patch sizes, seeds * tasks]`."""
    return np.array(
        [
            [run["seconds"] for task in TASKS for run in measurements["runs"][task][index]]
            for index in range(len(measurements["settings"]["patch_sizes"]))
        ]
    )


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the cost and the accuracy by patch size, and the accuracy against the arithmetic."""
    settings = measurements["settings"]
    sizes, updates = settings["patch_sizes"], np.array(settings["checkpoints"])
    figure, axes = figures.panels(1, rows=4, height=2.9)
    cost, shares = axes[:2]
    counted = np.array(measurements["counted"])
    times = seconds_per_update(measurements).T
    figures.band(cost, sizes, [counted / counted[0]], "multiply-adds, counted", 0)
    figures.band(cost, sizes, times / times[:, :1], "processor time of an update", 1)
    cost.set_yscale("log", base=4)
    cost.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
    figures.label(cost, "cost", "patch size, pixels", f"multiple of {sizes[0]}-pixel patches")
    for index, task in enumerate(TASKS):
        figures.band(shares, sizes, final(measurements, task).T, task, index)
    figures.label(
        shares, f"after {updates[-1]} updates", "patch size, pixels", "accuracy on test images"
    )
    for axis in (cost, shares):
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, sizes)
        axis.invert_xaxis()
        figures.legend(axis)
    for axis, task in zip(axes[2:], TASKS, strict=True):
        for index, size in enumerate(sizes):
            # A backward pass costs two forward passes.
            spent = 3 * settings["batch_size"] * updates * counted[index] / 1e9
            runs = [run["accuracy"] for run in measurements["runs"][task][index]]
            figures.band(axis, spent, runs, f"{size} pixels", index)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        figures.label(
            axis,
            f"{task}, at equal arithmetic",
            "billion multiply-adds of the training",
            "accuracy",
        )
        figures.legend(axis)
    figures.save(figure, path)


def smallest_useful(measurements: dict[str, Any], task: str) -> int | None:
    """Returns the patch size after the last halving that still helped; None if the first did not.

    A halving helped if the gain of accuracy, the mean over the seeds, is more than two standard
    errors.
    """
    shares, useful = final(measurements, task), None
    sizes = measurements["settings"]["patch_sizes"]
    for size, gains in zip(sizes[1:], shares[1:] - shares[:-1], strict=True):
        if not vision.significant(gains):
            break
        useful = size
    return useful


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the cost and the gain of every halving of the patches.

    The claim does not hold if a count differs from the formula, or if the first halving helps with
    neither kind of images. It holds if every halving helps with both. Otherwise it holds only down
    to a size, or for one kind of images. See `smallest_useful`.
    """
    settings = measurements["settings"]
    sizes, counted = settings["patch_sizes"], measurements["counted"]
    exact = all(
        count == formula(settings, size) for count, size in zip(counted, sizes, strict=True)
    )
    useful = {task: smallest_useful(measurements, task) for task in TASKS}
    condition = ""
    if not exact or not any(useful.values()):
        verdict = "does not hold"
    elif all(size == sizes[-1] for size in useful.values()):
        verdict = "holds"
    else:
        verdict = "holds only when"
        limits = " and ".join(
            f"down to {size} pixels with {task}" if size else f"not at all with {task}"
            for task, size in useful.items()
        )
        condition = (
            "the images need the detail: at an equal number of updates a gain from halving is "
            f"shown {limits}"
        )
    times = seconds_per_update(measurements).mean(axis=1)
    rows = [
        [
            f"{size} pixels",
            f"{(settings['image_size'] // size) ** 2}",
            f"{count / 1e6:.2f}",
            f"{1e3 * seconds:.1f}",
            *(f"{final(measurements, task)[index].mean():.1%}" for task in TASKS),
        ]
        for index, (size, count, seconds) in enumerate(zip(sizes, counted, times, strict=True))
    ]
    ratios = [after / before for before, after in itertools.pairwise(counted)]
    timed = [after / before for before, after in itertools.pairwise(times)]
    agreement = "equals" if exact else "differs from"
    return Finding(
        title="Patch size, cost and accuracy",
        claim=(
            "Smaller patches make a vision Transformer more accurate, and every halving of their "
            "side costs at least four times as much."
        ),
        measured=(
            f"Vision Transformers of {settings['num_layers']} layers and width "
            f"{settings['d_model']} on images of {settings['image_size']} pixels, digits and small "
            f"shapes at any place, with patches of {', '.join(map(str, sizes))} pixels a side, "
            f"the mean over the patches as output, and {settings['checkpoints'][-1]} updates. The "
            "encoder's multiply-adds for an image, counted by TensorFlow's profiler in the graph, "
            "against 2 N² d + 8 N d² per layer for N patches. The processor time of an update. "
            f"{len(settings['seeds'])} seeds."
        ),
        outcome=(
            f"The count {agreement} the formula. From one size to the next it grows by the factors "
            f"{', '.join(f'{ratio:.1f}' for ratio in ratios)}, the processor time of an update by "
            f"{', '.join(f'{ratio:.1f}' for ratio in timed)}.\n\n"
            + table(
                [
                    "patches",
                    "N",
                    "million multiply-adds",
                    "ms per update",
                    *(f"correct {task}" for task in TASKS),
                ],
                rows,
            )
        ),
        verdict=verdict,
        condition=condition,
        explanation=(
            "Half the side means four times the patches, N. Projections and feed-forward network "
            "grow with N, by a factor of 4; comparing positions grows with N², by 16 (claim 9). "
            "Which part is larger depends on N and d, so the factor lies between the two, and "
            "time grows less where a call has a fixed cost. What it buys: a patch is "
            "turned into a vector by one linear map, which cannot find a shape that may lie "
            "anywhere in the patch. Attention and feed-forward network work on whole patches, so "
            "with one patch per image no attention is left. Smaller patches leave more to "
            "the layers. But they must then learn more: which patches belong together. With few "
            "images and updates this may not pay, and large patches are the better use of "
            "the same arithmetic: see the lower panels. The number of weights hardly "
            "changes, since only the first map and the positions depend on the patch size."
        ),
        alt=(
            "Four panels: cost and accuracy against the patch size; and, for digits and shapes, "
            "accuracy against the arithmetic that the training has spent, a line per patch size."
        ),
        reference=(
            "Dosovitskiy et al. 2021, section 4.1 and table 5 (ViT-L/16 and ViT-L/32); Beyer et "
            "al. 2023, FlexiViT: One Model for All Patch Sizes."
        ),
    )
