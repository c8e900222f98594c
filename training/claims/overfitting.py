"""Training on few texts, and validation losses at equal training loss; claim 3.

A model that learns faster has a lower validation loss at any step. Only a comparison at equal
training loss shows regularisation.
"""

import numpy as np

from training.claims.loop import Trainer
from training.claims.tasks import Split

Curve = dict[str, list[float]]


def overfit(
    trainer: Trainer,
    splits: dict[str, Split],
    *,
    parts: int,
    steps: int,
    learning_rate: float,
    seed: int,
) -> Curve:
    """Restarts a trainer and evaluates its model after each part of the training.

    Args:
        trainer: Trainer on the few texts.
        splits: Splits to evaluate on, by name.
        parts: Number of parts.
        steps: Updates of a part.
        learning_rate: Constant learning rate.
        seed: Seed of the weights and the batches.

    Returns:
        The losses on each split, one per part.
    """
    trainer.restart(seed)
    curve: Curve = {name: [] for name in splits}
    for part in range(parts):
        trainer.train(steps=steps, learning_rate=learning_rate, seed=(seed, part))
        for name, split in splits.items():
            curve[name].append(trainer.evaluate(split).loss)
    return curve


def at_equal_training(curves: dict[str, list[Curve]]) -> dict[str, np.ndarray]:
    """Returns each seed's validation loss at the same training loss.

    The training loss is the lowest that all variants reach with this seed. Between two evaluations
    the validation loss is interpolated.

    Args:
        curves: For each variant one curve per seed, with `training` and `validation` losses.

    Returns:
        For each variant the validation losses `[seeds]`.
    """
    found: dict[str, list[float]] = {name: [] for name in curves}
    for runs in zip(*curves.values(), strict=True):
        level = max(min(curve["training"]) for curve in runs)
        for name, curve in zip(curves, runs, strict=True):
            training, validation = np.array(curve["training"]), np.array(curve["validation"])
            order = training.argsort()
            found[name].append(float(np.interp(level, training[order], validation[order])))
    return {name: np.array(values) for name, values in found.items()}
