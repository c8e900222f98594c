"""The weights a training ends with: an average over some epochs, or one epoch's."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from ktransformer.fitting.averaging import ValidationCallback, average_checkpoints
from ktransformer.fitting.loop import Batches, feed
from ktransformer.fitting.state import History

_log = logging.getLogger(__name__)


def epochs_after_best(history: Mapping[str, list[float]]) -> int:
    """Returns the number of epochs after the one with the lowest validation perplexity."""
    # Not val_loss: Keras weighs a batch's loss by its rows, however few tokens they hold.
    perplexities = history.get("val_perplexity", [np.inf])
    return len(perplexities) - 1 - int(np.argmin(perplexities))


def final_model(
    training_model: keras.Model,
    model: keras.Model,
    paths: Sequence[Path],
    history: History,
    validation: Batches | None,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epoch: int,
) -> tuple[keras.Model, History]:
    """Copies a trained model with its final weights.

    These are the average over some epochs; with `validation`, the last of these epochs' own weights
    where their perplexity is lower.

    Args:
        training_model: The compiled model that was fitted.
        model: The model in it; its weights are overwritten.
        paths: The epochs' weights.
        history: The metrics of each epoch.
        validation: The validation batches, or None.
        callbacks: Those of the training; each `ValidationCallback` adds its scores.
        epoch: The epoch of the last of `paths`, counted from 1.

    Returns:
        The copy, not compiled, and the scores of its weights, to add to the history.
    """
    final = type(model).from_config(model.get_config())  # Without the optimizer.
    final.build()
    average_checkpoints(final, paths)
    if validation is None or len(paths) == 1:
        return final, {}
    model.set_weights(final.get_weights())
    average = _evaluate(training_model, validation, callbacks, epoch)
    last = {name: history[name][epoch - 1] for name in average if name in history}
    is_average = average["val_perplexity"] <= last["val_perplexity"]
    if not is_average:
        average_checkpoints(final, paths[-1:])
    _log.info("The average of the last %s epochs' weights: %s.", len(paths), _describe(average))
    _log.info("The weights of epoch %s: %s.", epoch, _describe(last))
    _log.info("Kept: %s.", "the average" if is_average else f"epoch {epoch}")
    return final, {
        "final_averaged_epochs": [float(len(paths)) if is_average else 1.0],
        **{
            f"final_{name}": [float(value)]
            for name, value in (average if is_average else last).items()
        },
    }


def _evaluate(
    model: keras.Model,
    validation: Batches,
    callbacks: Sequence[keras.callbacks.Callback],
    epoch: int,
) -> dict[str, float]:
    """Returns the validation scores of a model's present weights, named as after an epoch."""
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


def _describe(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
