"""Claim 15: a vision Transformer has less inductive bias than a CNN, so it needs more images."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.claims import figures, image_tasks, loop, vision
from training.claims.finding import Finding, table
from training.claims.tasks import Split

NAME, NUMBER, SERIAL = "inductive_bias", 15, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and training."""

    seeds: tuple[int, ...] = (1, 2, 3)
    counts: tuple[int, ...] = (50, 150, 450, 1400)
    """Numbers of training images."""
    shifts: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Pixels by which test images are moved, in each of the four directions."""
    digit_size: int = 12
    border: int = 4
    patch_size: int = 4
    num_layers: int = 3
    d_model: int = 32
    filters: tuple[int, ...] = (16, 32, 64)
    """Filters of the convolutions of the CNN; a pooling follows each but the last."""
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 3e-3


QUICK = Settings(
    seeds=(1,), counts=(50, 100), shifts=(0, 1), num_layers=1, d_model=8, filters=(4, 4), steps=2
)

VIT, CNN, MOVED = "vision Transformer", "CNN", "vision Transformer, trained on moved digits"


def measure(settings: Settings) -> dict[str, Any]:
    """Trains both models on several numbers of images, and tests them on moved digits."""
    task = image_tasks.digits(settings.digit_size, settings.border)
    found: dict[str, Any] = {"settings": dataclasses.asdict(settings), "counts": {}, "moved": {}}
    found["parameters"] = {}
    for name, make in (
        (VIT, lambda: make_vit(settings, task)),
        (CNN, lambda: make_cnn(task, settings.filters)),
    ):
        trainer = vision.make_trainer(make, task.train, settings.batch_size)
        accuracy = vision.Accuracy(trainer.model)
        found["parameters"][name] = trainer.model.count_params()
        runs = [_train(settings, trainer, accuracy, task, seed) for seed in settings.seeds]
        found["counts"][name] = [run["counts"] for run in runs]
        found["moved"][name] = [run["moved"] for run in runs]
        if name == VIT:
            found["moved"][MOVED] = [
                _train_moved(settings, trainer, accuracy, task, seed) for seed in settings.seeds
            ]
    return found


def make_vit(settings: Settings, task: image_tasks.ImageTask) -> keras.Model:
    """Creates the vision Transformer."""
    return vision.make_model(
        task,
        patch_size=settings.patch_size,
        num_layers=settings.num_layers,
        d_model=settings.d_model,
    )


def make_cnn(task: image_tasks.ImageTask, filters: tuple[int, ...]) -> keras.Model:
    """Creates a CNN: 3 x 3 convolutions, poolings, and the mean over all places."""
    layers: list[Any] = [keras.Input((task.image_size, task.image_size, 1))]
    for index, count in enumerate(filters):
        if index:
            layers.append(keras.layers.MaxPooling2D())
        layers.append(keras.layers.Conv2D(count, 3, padding="same", use_bias=False))
        layers += [keras.layers.LayerNormalization(), keras.layers.Activation("relu")]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(task.num_classes)]
    return keras.Sequential(layers)


def _train(
    settings: Settings,
    trainer: loop.Trainer,
    accuracy: vision.Accuracy,
    task: image_tasks.ImageTask,
    seed: int,
) -> dict[str, list[float]]:
    """Trains on each number of images, drawn by the seed; the last model sees moved digits."""
    rate = vision.cosine(settings.learning_rate, settings.steps)
    order = np.random.default_rng(seed).permutation(len(task.train))
    shares = []
    for count in settings.counts:
        part = task.train.rows(order[:count])
        trainer.fit(steps=settings.steps, learning_rate=rate, seed=seed, split=part)
        shares.append(accuracy(task.test.inputs, task.test.labels))
    return {"counts": shares, "moved": moved_accuracies(accuracy, task.test, settings.shifts)}


def _train_moved(
    settings: Settings,
    trainer: loop.Trainer,
    accuracy: vision.Accuracy,
    task: image_tasks.ImageTask,
    seed: int,
) -> list[float]:
    """Trains on the largest number of images, five times each, moved by up to the largest shift."""
    random = np.random.default_rng(seed)
    part = task.train.rows(random.permutation(len(task.train))[: settings.counts[-1]])
    reach = max(settings.shifts)
    inputs = np.repeat(part.inputs, 5, axis=0)
    for image in inputs:
        image[:] = image_tasks.shifted_images(image[None], *random.integers(-reach, reach + 1, 2))[
            0
        ]
    trainer.fit(
        steps=settings.steps,
        learning_rate=vision.cosine(settings.learning_rate, settings.steps),
        seed=seed,
        split=Split(inputs, np.repeat(part.labels, 5)),
    )
    return moved_accuracies(accuracy, task.test, settings.shifts)


def moved_accuracies(
    accuracy: vision.Accuracy, test: Split, shifts: tuple[int, ...]
) -> list[float]:
    """Returns the accuracy on test images moved by each shift, the mean over four directions."""
    return [
        float(
            np.mean(
                [
                    accuracy(image_tasks.shifted_images(test.inputs, *move), test.labels)
                    for move in ((shift, 0), (-shift, 0), (0, shift), (0, -shift))
                ]
            )
        )
        for shift in shifts
    ]


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws accuracy against the number of training images, and against the shift."""
    settings = measurements["settings"]
    figure, (counts, moved) = figures.panels(1, rows=2, height=3.4)
    for index, (name, runs) in enumerate(measurements["counts"].items()):
        figures.band(counts, settings["counts"], runs, name, index)
    counts.set_xscale("log")
    counts.set_xticks(settings["counts"], settings["counts"])
    counts.minorticks_off()
    figures.label(counts, "data needed", "training images", "accuracy on test digits")
    figures.legend(counts, loc="lower right")
    for index, name in enumerate((VIT, CNN, MOVED)):
        label = "vision Transformer,\ntrained on moved digits" if name == MOVED else name
        figures.band(moved, settings["shifts"], measurements["moved"][name], label, index)
    moved.set_xticks(settings["shifts"])
    moved.set_ylim(0, 1.02)
    figures.label(
        moved,
        f"moved test digits, {settings['counts'][-1]} training images",
        f"shift, pixels (a patch has {settings['patch_size']})",
        "accuracy on test digits",
    )
    figures.legend(moved, loc="lower left")
    figures.save(figure, path)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the data needed and the accuracy on moved digits.

    The Transformer needs more data if with the fewest images it is worse than the CNN by more than
    two standard errors, and the mean difference with the most images is at most half of that. It
    bears shifts worse if the largest shift costs it more accuracy than the CNN, by more than two
    standard errors. The claim holds if both are so, holds only for one of them if one is, and
    otherwise does not hold.
    """
    settings = measurements["settings"]
    shares = {name: np.array(runs) for name, runs in measurements["counts"].items()}
    moved = {name: np.array(runs) for name, runs in measurements["moved"].items()}
    lead = shares[CNN] - shares[VIT]
    few, many = lead[:, 0], lead[:, -1]
    hungry = vision.significant(few) and many.mean() <= few.mean() / 2
    lost = {name: runs[:, 0] - runs[:, -1] for name, runs in moved.items()}
    fragile = vision.significant(lost[VIT] - lost[CNN])
    if hungry and fragile:
        verdict, condition = "holds", ""
    elif hungry:
        verdict, condition = "holds only when", "it is limited to data: shifts cost both as much"
    elif fragile:
        verdict = "holds only when"
        condition = (
            "it is limited to translation: that the CNN's lead is larger with few images is not "
            "shown"
        )
    else:
        verdict, condition = "does not hold", ""
    counts, shifts = settings["counts"], settings["shifts"]
    parameters = measurements["parameters"]
    worst = shifts[int(moved[VIT].mean(axis=0).argmin())]
    rows = [
        [
            name,
            *(f"{share:.1%}" for share in [*shares[name].mean(axis=0), moved[name][:, -1].mean()]),
        ]
        for name in (VIT, CNN)
    ]
    rows.append([MOVED, *["" for _ in counts[:-1]], f"{moved[MOVED][:, 0].mean():.1%}"])
    rows[-1].append(f"{moved[MOVED][:, -1].mean():.1%}")
    return Finding(
        title="Less inductive bias than a CNN",
        claim=(
            "A vision Transformer knows less about images than a CNN: it needs more of them, and "
            "does not recognise what has moved."
        ),
        measured=(
            f"Digits of {settings['digit_size']} pixels in the middle of images of "
            f"{settings['digit_size'] + 2 * settings['border']}. A vision Transformer of "
            f"{settings['num_layers']} layers, patches of {settings['patch_size']} pixels and "
            f"{parameters[VIT]:,} weights, and a CNN of {len(settings['filters'])} convolutions, "
            "poolings and the mean over all places, with "
            f"{parameters[CNN]:,}. Both are trained for {settings['steps']} updates on "
            f"{', '.join(map(str, counts))} images, and tested on others: in the middle, and moved "
            f"by up to {shifts[-1]} pixels up, down, left and right. {len(settings['seeds'])} "
            "seeds, each with other training images."
        ),
        outcome=(
            f"With {counts[0]} images the accuracy of the CNN is higher by {few.mean():+.1%}, with "
            f"{counts[-1]} by {many.mean():+.1%}. A shift of {shifts[-1]} pixels costs the "
            f"Transformer {lost[VIT].mean():.1%} and the CNN {lost[CNN].mean():.1%}; a Transformer "
            f"trained on moved digits loses {lost[MOVED].mean():.1%} of its "
            f"{moved[MOVED][:, 0].mean():.1%}. The Transformer's worst shift is {worst} pixels: "
            f"{moved[VIT].mean(axis=0).min():.1%} are left.\n\n"
            + table(
                [
                    "model",
                    *(f"{count:,} images" for count in counts),
                    f"{counts[-1]:,}, moved by {shifts[-1]}",
                ],
                rows,
            )
        ),
        verdict=verdict,
        condition=condition,
        explanation=(
            "A convolution looks only at neighbouring pixels, and has the same weights at every "
            "place: what it has learned in one place it knows in all. The poolings and the mean at "
            "the end throw the place away, or nearly so: a pooling keeps whether a place is even. "
            "A vision Transformer has the same map for every patch, and no more. A shift by a "
            "whole patch changes only which position holds a patch; a shift by half a patch "
            "changes the patches themselves. That patches are neighbours, and that a stroke in the "
            "next patch is still a stroke, it must learn from images. So its missing knowledge "
            "can be given as data, the same digits moved at random; but they are a harder task, "
            "which takes more updates. More freedom is a disadvantage with few images and may be "
            "an advantage with very many: Dosovitskiy et al. are behind ResNets with 9 million "
            "images and ahead with 300 million. A small CNN with a dense layer on all places "
            "instead of the mean would also depend on the place; and strong augmentation, as of "
            "DeiT, narrows the difference without more images."
        ),
        alt=(
            "Two panels: the accuracy of both models against the number of training images; and "
            "against the shift of the test digits, with a third line for a Transformer that was "
            "trained on moved digits."
        ),
        reference=(
            "Dosovitskiy et al. 2021, sections 3.1 and 4.3, figures 3 and 4; Touvron et al. 2021, "
            "Training Data-Efficient Image Transformers."
        ),
    )
