"""The small vision Transformers of the experiments: their training, accuracy, and attention."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from ktransformer.layers import PatchEmbedding
from ktransformer.models import VisionTransformer
from training.claims import loop, scores
from training.claims.image_tasks import ImageTask
from training.claims.tasks import Split


class UnplacedPatches(PatchEmbedding):
    """An embedding whose patches get no position."""

    def positions(self, rows: int, columns: int) -> Any:
        return ops.zeros_like(super().positions(rows, columns))


class UnplacedVisionTransformer(VisionTransformer):
    """A vision Transformer that cannot tell where a patch lies."""

    def make_patch_embedding(self) -> keras.layers.Layer:
        return UnplacedPatches.from_config(super().make_patch_embedding().get_config())


def make_model(
    task: ImageTask,
    *,
    patch_size: int,
    num_layers: int,
    d_model: int,
    kind: type[VisionTransformer] = VisionTransformer,
    **options: Any,
) -> VisionTransformer:
    """Creates a model with 4 heads, an inner layer of twice the width, and no dropout."""
    return kind(
        task.num_classes,
        image_size=task.image_size,
        channels=1,
        patch_size=patch_size,
        num_layers=num_layers,
        d_model=d_model,
        **{"num_heads": 4, "hidden_dim": 2 * d_model, "dropout": 0.0, **options},
    )


def make_trainer(make: Callable[[], keras.Model], split: Split, batch_size: int) -> loop.Trainer:
    """Returns a trainer of a classifier."""
    return loop.Trainer(
        make,
        split,
        batch_size=batch_size,
        clip_norm=1.0,
        loss_function=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def cosine(peak: float, steps: int) -> Callable[[int], float]:
    """Returns a schedule: a linear warm-up over a tenth of the updates, then a cosine down to 0."""
    warmup = max(1, steps // 10)

    def rate(number: int) -> float:
        if number < warmup:
            return peak * (number + 1) / warmup
        return peak * 0.5 * (1 + math.cos(math.pi * (number - warmup) / (steps - warmup)))

    return rate


class Accuracy:
    """Measures the accuracy of a model with its current weights, compiled once.

    Args:
        model: A classifier.
        batch_size: Images per batch.
    """

    def __init__(self, model: keras.Model, batch_size: int = 200) -> None:
        self._predict, self._batch_size = scores.predictor(model), batch_size

    def __call__(self, inputs: np.ndarray, labels: np.ndarray) -> float:
        """Returns the share of images `[N, h, w, C]` whose most probable class is their label."""
        guesses = [
            np.asarray(self._predict(inputs[start : start + self._batch_size])).argmax(axis=-1)
            for start in range(0, len(labels), self._batch_size)
        ]
        return float(np.mean(np.concatenate(guesses) == labels))


def grid_distances(side: int) -> np.ndarray:
    """Returns the distances between the patches of a square grid, in patches: `[P, P]`."""
    places = np.stack(np.divmod(np.arange(side * side), side), axis=-1)
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def significant(values: Any) -> bool:
    """Returns whether the mean of the seeds is more than two standard errors above 0."""
    values = np.asarray(values, float)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else math.inf
    return bool(values.mean() > 2 * error)
