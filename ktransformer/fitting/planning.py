"""What a training will do, decided and said before its first update."""

import dataclasses
import logging

from ktransformer.config import Config
from ktransformer.fitting.compiling import can_use_muon
from ktransformer.fitting.defaults import (
    WARMUP_SHARE,
    Fit,
    choose_fit,
    count_updates,
    longest_warmup,
)
from ktransformer.fitting.resuming import Batches
from ktransformer.models import Transformer

_log = logging.getLogger(__name__)


def plan_training(model: Transformer, config: Config, batches: Batches) -> tuple[Config, Fit]:
    """Chooses the settings that are null, cuts a warm-up that is too long, and logs the plan.

    Args:
        model: What will be trained.
        config: How.
        batches: The training pairs.

    Returns:
        The configuration with all that was chosen, and the settings that may have been.

    Raises:
        InputError: More batches are accumulated than the training has.
    """
    options, steps = config.training, batches.steps_per_epoch
    fit = choose_fit(
        options, steps_per_epoch=steps, d_model=model.d_model, can_use_muon=can_use_muon()
    )
    updates = count_updates(fit.epochs, steps, options.accumulate_batches)
    most = longest_warmup(updates)
    if fit.warmup_steps > most:
        _log.warning(
            "warmup_steps=%s is cut to %s: at most %.0f %% of the %s updates.",
            fit.warmup_steps,
            most,
            100 * WARMUP_SHARE,
            f"{updates:,}",
        )
        fit = dataclasses.replace(fit, warmup_steps=most)
    chosen = dataclasses.asdict(fit)
    _log.info(
        "Training %s parameters, a vocabulary of %s: %s updates in %s epochs, of which the first "
        "%s are the warm-up; %s updates an epoch.",
        f"{model.count_params():,}",
        f"{model.vocabulary_size:,}",
        f"{updates:,}",
        fit.epochs,
        f"{fit.warmup_steps:,}",
        f"{steps / options.accumulate_batches:,.0f}",
    )
    names = [name for name in chosen if getattr(options, name) is None]
    if names:
        _log.info(
            "Chosen for %s batches an epoch: %s.",
            f"{steps:,}",
            ", ".join(f"{name}={chosen[name]}" for name in names),
        )
    return config.replace(chosen), fit
