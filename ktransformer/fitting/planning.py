"""The plan of a training: its length and schedule, chosen and logged before the first update."""

import dataclasses
import logging
import math

import keras

from ktransformer.config import TrainingConfig
from ktransformer.fitting.compiling import can_use_muon
from ktransformer.fitting.defaults import (
    WARMUP_SHARE,
    Fit,
    choose_fit,
    count_updates,
    longest_warmup,
)
from ktransformer.fitting.loop import Batches

_log = logging.getLogger(__name__)


def plan_training(model: keras.Model, options: TrainingConfig, batches: Batches) -> Fit:
    """Chooses the settings that are null, shortens a warm-up that is too long, and logs the plan.

    Args:
        model: The model to train; see `fit_model`.
        options: How to train it.
        batches: The training batches.

    Raises:
        InputError: More batches are accumulated than the training has.
    """
    steps = batches.steps_per_epoch
    fit = choose_fit(
        options, steps_per_epoch=steps, d_model=model.d_model, can_use_muon=can_use_muon()
    )
    own = getattr(model, "source_vocabulary_size", None)
    updates = count_updates(fit.epochs, steps, options.accumulate_batches)
    longest = longest_warmup(updates)
    if fit.warmup_steps > longest:
        _log.warning(
            "warmup_steps=%s is cut to %s: at most %.0f %% of the %s updates.",
            fit.warmup_steps,
            longest,
            100 * WARMUP_SHARE,
            f"{updates:,}",
        )
        fit = dataclasses.replace(fit, warmup_steps=longest)
    _log.info(
        "Training %s parameters, a vocabulary of %s%s: %s updates in %s epochs, of which the first "
        "%s are the warm-up; %s updates an epoch.",
        _describe_size(model),
        f"{model.vocabulary_size:,}",
        f" (source: {own:,})" if own else "",
        f"{updates:,}",
        fit.epochs,
        f"{fit.warmup_steps:,}",
        f"{steps / options.accumulate_batches:,.0f}",
    )
    chosen = dataclasses.asdict(fit)
    names = [name for name in chosen if getattr(options, name) is None]
    if names:
        _log.info(
            "Chosen for %s batches an epoch: %s.",
            f"{steps:,}",
            ", ".join(f"{name}={chosen[name]}" for name in names),
        )
    return fit


def _describe_size(model: keras.Model) -> str:
    """Returns the number of the model's weights, and before it that of those that are trained."""
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    count = model.count_params()
    return f"{trained:,} of {count:,}" if trained < count else f"{count:,}"
