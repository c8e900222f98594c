"""Trains on few texts, and compares validation losses at equal training loss; claim 3.

A model that merely learns faster has a lower validation loss at any step. Whether something
regularises shows only where the training losses are equal.
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
    """Restarts a trainer and judges its model after each part of the training.

    Args:
        trainer: Trains on the few texts.
        splits: What to judge by.
        parts: How often.
        steps: Updates before each judgement.
        learning_rate: Constant.
        seed: Seed of the weights and the batches.

    Returns:
        The losses on each split, one a part.
    """
    trainer.restart(seed)
    curve: Curve = {name: [] for name in splits}
    for part in range(parts):
        trainer.train(steps=steps, learning_rate=learning_rate, seed=(seed, part))
        for name, split in splits.items():
            curve[name].append(trainer.evaluate(split).loss)
    return curve


def at_equal_training(curves: dict[str, list[Curve]]) -> dict[str, np.ndarray]:
    """Returns each seed's validation loss on the way to one training loss.

    That is the lowest training loss that all variants reached with this seed; between two
    judgements the validation loss is interpolated.

    Args:
        curves: For each variant, a curve a seed, with `training` and `validation`.
    """
    found: dict[str, list[float]] = {name: [] for name in curves}
    for runs in zip(*curves.values(), strict=True):
        level = max(min(curve["training"]) for curve in runs)
        for name, curve in zip(curves, runs, strict=True):
            training, validation = np.array(curve["training"]), np.array(curve["validation"])
            order = training.argsort()
            found[name].append(float(np.interp(level, training[order], validation[order])))
    return {name: np.array(values) for name, values in found.items()}
