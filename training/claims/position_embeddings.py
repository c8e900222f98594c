"""Claim 12: a vision Transformer needs position embeddings, and they learn the grid."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.models import VisionTransformer
from training.claims import figures, image_tasks, vision
from training.claims.finding import Finding, table
from training.claims.tasks import Split

NAME, NUMBER, SERIAL = "position_embeddings", 12, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and training."""

    seeds: tuple[int, ...] = (1, 2, 3)
    image_size: int = 12
    patch_size: int = 2
    num_layers: int = 2
    d_model: int = 32
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 3e-3


QUICK = Settings(seeds=(1,), image_size=8, num_layers=1, d_model=8, steps=3)

WITH, WITHOUT = "with positions", "without positions"
KINDS = {WITH: VisionTransformer, WITHOUT: vision.UnplacedVisionTransformer}
TASKS = ("digits", "textures")


def measure(settings: Settings) -> dict[str, Any]:
    """Trains models with and without positions, and on images with shuffled patches."""
    found: dict[str, Any] = {"settings": dataclasses.asdict(settings), "accuracy": {}}
    for task in TASKS:
        for name in KINDS:
            found["accuracy"][f"{task}, {name}"] = _train(settings, task, name)
    found["shuffled"] = _train(settings, "digits", WITH, fixed_order=_order(settings))
    return found


def _order(settings: Settings) -> np.ndarray:
    """Returns the one order in which the patches of all images are shuffled."""
    count = (settings.image_size // settings.patch_size) ** 2
    return np.random.default_rng(0).permutation(count)


def _train(
    settings: Settings, name: str, kind: str, fixed_order: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Trains a model per seed; returns its accuracies and the similarities of its positions."""
    task = getattr(image_tasks, name)(settings.image_size)
    train, test = task.train, task.test
    if fixed_order is not None:
        train, test = (_shuffled(part, settings.patch_size, fixed_order) for part in (train, test))
    make = functools.partial(
        vision.make_model,
        task,
        patch_size=settings.patch_size,
        num_layers=settings.num_layers,
        d_model=settings.d_model,
        kind=KINDS[kind],
    )
    trainer = vision.make_trainer(make, train, settings.batch_size)
    accuracy = vision.Accuracy(trainer.model)
    rate = vision.cosine(settings.learning_rate, settings.steps)
    count = (settings.image_size // settings.patch_size) ** 2
    runs = []
    for seed in settings.seeds:
        before = similarities(trainer.restart(seed))
        trainer.train(steps=settings.steps, learning_rate=rate, seed=seed)
        random = np.random.default_rng(seed)
        orders = np.stack([random.permutation(count) for _ in range(len(test))])
        mixed = _shuffled(test, settings.patch_size, orders)
        run = {
            "accuracy": accuracy(test.inputs, test.labels),
            "mixed": accuracy(mixed.inputs, mixed.labels),
        }
        if kind == WITH and name == "digits":
            after = similarities(trainer.model)
            if fixed_order is not None:
                # Position i holds the patch from `fixed_order[i]`: back to its place.
                back = np.argsort(fixed_order)
                run["by_place"] = by_distance(after)
                after = after[back][:, back]
            else:
                run["maps"] = example_maps(after)
            run |= {"before": by_distance(before), "after": by_distance(after)}
        runs.append(run)
    return runs


def _shuffled(split: Split, patch_size: int, order: np.ndarray) -> Split:
    return Split(image_tasks.shuffled_patches(split.inputs, patch_size, order), split.labels)


def similarities(model: VisionTransformer) -> np.ndarray:
    """Returns the cosines of the patches' position embeddings: `[P, P]`."""
    embeddings = model.patch_embedding.position_embeddings.numpy()[1:]
    units = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return units @ units.T


def by_distance(cosines: np.ndarray) -> dict[str, Any]:
    """Compares similarities `[P, P]` with distances on the grid.

    Returns:
        `correlation` of similarity and distance over all pairs of patches, and the mean `cosine` at
        each `distance`, rounded to whole patches.
    """
    side = round(len(cosines) ** 0.5)
    distances = vision.grid_distances(side)
    pairs = np.triu_indices(len(cosines), 1)
    near, cosine = distances[pairs], cosines[pairs]
    rounded = np.rint(near).astype(int)
    places = sorted(set(rounded.tolist()))
    return {
        "correlation": float(np.corrcoef(near, cosine)[0, 1]),
        "distance": places,
        "cosine": [round(float(cosine[rounded == place].mean()), 4) for place in places],
    }


def example_maps(cosines: np.ndarray) -> list[list[float]]:
    """Returns the similarities of nine patches, spread over the grid, with all patches."""
    side = round(len(cosines) ** 0.5)
    lines = [side // 6, side // 2, side - 1 - side // 6]
    return [np.round(cosines[row * side + column], 3).tolist() for row in lines for column in lines]


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws accuracies, similarity against distance, and the similarities of nine patches."""
    figure, (shares, curves, maps) = figures.panels(1, rows=3, height=3.2)
    names = [name.replace(", ", ",\n") for name in measurements["accuracy"]]
    runs = [[run["accuracy"] for run in runs] for runs in measurements["accuracy"].values()]
    names.insert(2, "digits, one shuffle,\nwith positions")
    runs.insert(2, [run["accuracy"] for run in measurements["shuffled"]])
    figures.ranges(shares, names, runs, 0)
    shares.set_xlim(0, 1)
    figures.label(shares, "accuracy", "share of test images", "")
    trained = measurements["accuracy"][f"digits, {WITH}"]
    lines = (
        ("before training", [run["before"] for run in trained]),
        ("trained", [run["after"] for run in trained]),
        ("one shuffle, by origin", [run["after"] for run in measurements["shuffled"]]),
        ("one shuffle, by place", [run["by_place"] for run in measurements["shuffled"]]),
    )
    for index, (name, found) in enumerate(lines):
        cosines = [one["cosine"] for one in found]
        figures.band(curves, found[0]["distance"], cosines, name, index)
    figures.label(curves, "similarity of positions", "distance, patches", "mean cosine")
    figures.legend(curves)
    side = measurements["settings"]["image_size"] // measurements["settings"]["patch_size"]
    tiles = np.full((3 * side + 2, 3 * side + 2), np.nan)
    for index, values in enumerate(trained[0]["maps"]):
        top, left = ((side + 1) * place for place in divmod(index, 3))
        tiles[top : top + side, left : left + side] = np.reshape(values, (side, side))
    image = maps.imshow(tiles, cmap="viridis", vmax=1)
    maps.set_xticks([])
    maps.set_yticks([])
    maps.grid(visible=False)
    maps.spines[:].set_visible(False)
    figures.label(
        maps, "nine positions with all others, seed 1", f"each map: {side} x {side} positions", ""
    )
    bar = figure.colorbar(image, ax=maps, shrink=0.75, panchor=(0.5, 0.5))
    bar.set_label("cosine", fontsize=9, color=figures.MUTED)
    figures.save(figure, path)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the accuracy with and without positions, and the similarity of the positions.

    Positions are needed for a task if they raise the accuracy of every seed by 5 points or more.
    They have learned the grid if in every seed the correlation of similarity and distance is -0.3
    or lower after training. The claim does not hold if positions are not needed for digits. It
    holds if they are needed for textures too and have learned the grid; otherwise it holds under
    the conditions that are not met.
    """
    settings = measurements["settings"]
    shares = {
        name: np.array([run["accuracy"] for run in runs])
        for name, runs in measurements["accuracy"].items()
    }
    gains = {task: shares[f"{task}, {WITH}"] - shares[f"{task}, {WITHOUT}"] for task in TASKS}
    needed = {task: bool((gains[task] >= 0.05).all()) for task in TASKS}
    trained = measurements["accuracy"][f"digits, {WITH}"]
    unplaced = measurements["accuracy"][f"digits, {WITHOUT}"]
    before, after = (
        np.array([run[moment]["correlation"] for run in trained]) for moment in ("before", "after")
    )
    shuffled = measurements["shuffled"]
    origin, place = (
        np.mean([run[key]["correlation"] for run in shuffled]) for key in ("after", "by_place")
    )
    learned = bool((after <= -0.3).all())
    conditions = []
    if not needed["textures"]:
        conditions.append(
            "the class depends on where the parts are: with textures positions change the "
            f"accuracy by {gains['textures'].mean():+.1%}"
        )
    if not learned:
        conditions.append(
            "it is limited to the accuracy: the similarity of the positions follows the grid too "
            f"little here, with a correlation of {after.mean():.2f}"
        )
    condition = ", and ".join(conditions) if needed["digits"] else ""
    verdict = (
        "does not hold" if not needed["digits"] else "holds only when" if condition else "holds"
    )
    neighbours = {
        moment: np.mean([run[moment]["cosine"][0] for run in trained])
        for moment in ("before", "after")
    }
    mixed = {
        kind: np.mean([run["mixed"] for run in measurements["accuracy"][f"digits, {kind}"]])
        for kind in KINDS
    }
    rows = [[name, f"{runs.mean():.1%}", f"{np.ptp(runs):.1%}"] for name, runs in shares.items()]
    one = np.array([run["accuracy"] for run in shuffled])
    rows.append(["digits, one shuffle for all images, with positions", f"{one.mean():.1%}"])
    rows[-1].append(f"{np.ptp(one):.1%}")
    changed = max(abs(run["mixed"] - run["accuracy"]) for run in unplaced)
    side = settings["image_size"] // settings["patch_size"]
    return Finding(
        title="Position embeddings on images",
        claim=(
            "A vision Transformer needs position embeddings, and from nothing but the classes they "
            "learn the grid of the patches."
        ),
        measured=(
            f"Vision Transformers of {settings['num_layers']} layers, width {settings['d_model']}, "
            f"on images of {settings['image_size']} pixels in {side} x {side} patches: "
            "handwritten digits, and textures (stripes, checks and dots with a random offset). "
            "With learned position embeddings; without, by a subclass of the patch embedding that "
            "adds zeros; and with them, on digits whose patches are shuffled, in one order for all "
            f"images. {settings['steps']} updates, {len(settings['seeds'])} seeds. The similarity "
            "of two positions is the cosine of their embeddings; the grid is learned if it falls "
            "with the distance of the patches."
        ),
        outcome=(
            "The accuracy on test images, the mean over seeds and the range of the seeds. If the "
            "patches of each test digit are shuffled anew, the model with positions falls to "
            f"{mixed[WITH]:.1%}; the accuracy of the one without changes by {changed:.1%}. The "
            "correlation of similarity and distance goes from "
            f"{before.mean():.2f} before training to {after.mean():.2f}. After a training on "
            f"shuffled digits it is {origin:.2f} by the places that the patches came from, and "
            f"{place:.2f} by those where they lie. The mean cosine of neighbours goes from "
            f"{neighbours['before']:.2f} to {neighbours['after']:.2f}.\n\n"
            + table(["images, model", "accuracy", "range"], rows)
        ),
        verdict=verdict,
        condition=condition,
        explanation=(
            "Self-attention treats its inputs as a set. Without positions the model gives the same "
            "logits for every order of the patches, so it can only count what patches there are. "
            "That is enough for a texture, which is the same everywhere, and too little for a "
            "digit. Nothing tells the model that patch 2 lies beside patch 1: the embeddings start "
            "as random numbers, and an image in shuffled order is as good to it as the image, if "
            "the order is always the same. What they learn of the grid they learn from "
            "images, because neighbouring patches show similar things and are useful in "
            "similar ways. A convolution has the grid built in and would lose it by such a "
            "shuffle. Small data teaches only part of the grid; the clear rows and columns of "
            "Dosovitskiy et al. come from millions of images. Corners that are empty in every "
            "digit may become alike, far as they are from each other."
        ),
        alt=(
            "Three panels: bars of the accuracy on digits and textures with and without positions "
            "and with shuffled patches; the mean cosine of two positions against their distance; "
            "and nine small maps of the similarity of one position with all others."
        ),
        reference=(
            "Dosovitskiy et al. 2021, An Image Is Worth 16x16 Words, section 4.5, figure 7 and "
            "appendix D.4."
        ),
    )
