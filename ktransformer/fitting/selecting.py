"""Which weights a training ends with: their mean over some epochs, or one epoch's."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from ktransformer.fitting.averaging import ValidationCallback, average_checkpoints
from ktransformer.fitting.resuming import Batches, History, feed

_log = logging.getLogger(__name__)


def evaluate(
    model: keras.Model,
    validation: Batches,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epoch: int,
) -> dict[str, float]:
    """Returns the validation scores of a model's present weights, named as after an epoch.

    Args:
        model: Compiled, with the weights to evaluate.
        validation: The pairs.
        callbacks: Those of the training; each `ValidationCallback` adds its scores.
        epoch: The training's last epoch, counted from 1.
    """
    found = model.evaluate(
        feed(validation, 0, validation.steps_per_epoch),
        steps=validation.steps_per_epoch,
        return_dict=True,
        verbose=0,
    )
    scores = {f"val_{name}": float(value) for name, value in found.items()}
    for callback in callbacks:
        if isinstance(callback, ValidationCallback):
            callback.on_epoch_end(epoch - 1, scores)
    return scores


def keep_better(
    model: keras.Model,
    paths: Sequence[Path],
    mean: Mapping[str, float],
    last: Mapping[str, float],
    *,
    epoch: int,
) -> History:
    """Leaves a model the weights' mean, or gives it those of its last epoch if they are better.

    Lower perplexity is better, as it is for `patience`.

    Args:
        model: Has the mean.
        paths: The epochs' weights, the last of them that of `last`.
        mean: Validation scores of the mean.
        last: Validation scores of the last epoch.
        epoch: Its number, for the log.

    Returns:
        The scores of the weights that the model has, as an addition to a history.
    """
    mean_is_kept = mean["val_perplexity"] <= last["val_perplexity"]
    if not mean_is_kept:
        average_checkpoints(model, paths[-1:])
    _log.info("The mean of the last %s epochs' weights: %s.", len(paths), _describe(mean))
    _log.info("The weights of epoch %s: %s.", epoch, _describe(last))
    _log.info("Kept: %s.", "the mean" if mean_is_kept else f"epoch {epoch}")
    kept = mean if mean_is_kept else last
    return {
        "final_averaged_epochs": [float(len(paths)) if mean_is_kept else 1.0],
        **{f"final_{name}": [float(value)] for name, value in kept.items()},
    }


def _describe(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
