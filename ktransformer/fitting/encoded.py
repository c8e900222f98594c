"""Training from batches of ids: all of it that needs no tokenizer, and so no TensorFlow."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting.averaging import LastCheckpoints, average_checkpoints
from ktransformer.fitting.compiling import compile_training_model, count_devices
from ktransformer.fitting.defaults import Fit
from ktransformer.fitting.planning import plan_training
from ktransformer.fitting.resuming import Batches, History, TrainingState, fit
from ktransformer.fitting.selecting import evaluate, keep_better
from ktransformer.models import Transformer

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a training ends with.

    Attributes:
        model: The Transformer with its final weights, not compiled.
        history: The metrics of each epoch, `{"loss": [...], "val_loss": [...], ...}`; where the
            weights' mean was compared with an epoch's, also those of the final weights,
            `{"final_val_loss": [x], ...}`, and `{"final_averaged_epochs": [n]}`, 1 where the
            epoch was better.
        config: The configuration, with what was chosen from the text.
    """

    model: Transformer
    history: History
    config: Config


def open_state(
    checkpoints: str | Path, config: Config, about: Mapping[str, Any], *, resume: bool
) -> TrainingState:
    """Opens the state of a training: a new one, or, to resume, the one in `checkpoints`.

    Args:
        checkpoints: The training's folder.
        config: How to train.
        about: What the batches will be of, by name, as JSON can hold it: a training goes on only
            with the same.
        resume: Whether to go on from a state that is there.

    Raises:
        InputError: The state is damaged or of another training.
    """
    state = TrainingState(
        Path(checkpoints) / "training.npz",
        minutes=config.training.checkpoint_minutes,
        about={"config": config.to_dict(), "devices": count_devices(), **about},
    )
    if resume and state.path.is_file():
        _check_same(state.read(), state)
        _log.info("Going on after update %s.", f"{state.update:,}")
    elif resume:
        _log.info("%s holds no state of a training; this one begins.", Path(checkpoints))
    return state


def agree(state: TrainingState, name: str, value: str) -> None:
    """Adds to what a training is of what is only known once its text is encoded.

    Args:
        state: What `open_state` returned.
        name: What it is, such as the tokenizer.
        value: Which one it is, such as its digest.

    Raises:
        InputError: The training that goes on had another.
    """
    if state.about_before.get(name, value) != value:
        raise InputError(f"{state.path} is of a training with another {name}.")
    state.about[name] = value


def fit_transformer(
    model: Transformer,
    config: Config,
    batches: Batches,
    validation: Batches | None = None,
    *,
    state: TrainingState,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Fits a Transformer to batches of ids as a configuration says.

    Works on TensorFlow, in the scope of a `tf.distribute` strategy too, and on JAX, under a
    `keras.distribution` too: model and batches are made under it, the rows of every batch are a
    multiple of `count_devices()`.

    Args:
        model: What `make_model` made of `config`, or a subclass that its `get_config` describes;
            it is trained.
        config: How to train it.
        batches: The training pairs.
        validation: Pairs for the validation loss, or None.
        state: What `open_state` returned; the weights of the last epochs go beside its file. When
            the result is saved, `remove_checkpoints` that folder.
        callbacks: Further Keras callbacks.

    Returns:
        A model with the weights' mean over the last epochs; with `patience` set, over those up to
        the one with the best validation perplexity. With `validation`, that epoch's own weights
        where their perplexity is lower than the mean's.

    Raises:
        InputError: `patience` is set without `validation`, the state is of another model or
            training, more batches are accumulated than there are, or the loss becomes NaN.
    """
    if validation is None and config.training.patience is not None:
        raise InputError("patience needs validation text to watch; got none.")
    config, fit_options = plan_training(model, config, batches)
    options = config.training
    record_chosen(state, config)
    training_model = compile_training_model(model, options, steps_per_epoch=batches.steps_per_epoch)
    later = 0 if options.patience is None else max(options.patience, 1)  # Epochs after the best.
    keeper = LastCheckpoints(state.path.parent, keep=fit_options.average_checkpoints + later)
    _check_kept(keeper, model, state, fit_options, options.patience, batches.steps_per_epoch)
    fit(
        training_model,
        batches,
        state,
        epochs=fit_options.epochs,
        enough=lambda history: later > 0 and _epochs_after_the_best(history) >= later,
        validation=validation,
        callbacks=[keeper, *callbacks],
    )
    trained = type(model).from_config(model.get_config())  # Without the optimizer.
    trained.build()
    last = len(state.history["loss"])
    if later:
        last -= _epochs_after_the_best(state.history)
    paths = keeper.last(fit_options.average_checkpoints, last)
    average_checkpoints(trained, paths)
    history = state.history
    if validation is not None and len(paths) > 1:
        model.set_weights(trained.get_weights())
        scores = evaluate(training_model, validation, callbacks, epoch=last)
        before = {name: history[name][last - 1] for name in scores if name in history}
        history = history | keep_better(trained, paths, scores, before, epoch=last)
    return FitResult(trained, history, config)


def _check_kept(
    keeper: LastCheckpoints,
    model: Transformer,
    state: TrainingState,
    fit_options: Fit,
    patience: int | None,
    steps_per_epoch: int,
) -> None:
    """Checks that a training that goes on has what its end will need."""
    epoch, end = len(state.history.get("loss", [])), fit_options.epochs
    if epoch != state.update // steps_per_epoch:
        raise InputError(
            f"{state.path} is not the whole state of a training: it has {state.update} updates of "
            f"{steps_per_epoch} an epoch, and the metrics of {epoch} epochs."
        )
    if patience is not None and epoch:
        end = epoch - _epochs_after_the_best(state.history)
    keeper.check(model, fit_options.average_checkpoints, epoch=epoch, end=max(end, 1))


# What may be another when a training goes on: it changes nothing that was already done.
_FREE = {"epochs", "patience", "checkpoint_minutes", "tensorboard", "shard_pairs"}


def _check_same(saved: Mapping[str, Any], state: TrainingState) -> None:
    """Checks that a training that goes on is the one that was cut."""
    if not isinstance(saved.get("config"), dict):
        raise InputError(f"{state.path} is not the whole state of a training.")
    before, now = saved.get("devices", 1), state.about["devices"]
    if before != now:
        raise InputError(f"{state.path} is of a training with devices={before}; got devices={now}.")
    pairs = saved.get("shard_pairs")  # None for text in memory, however many pairs that may hold.
    if pairs != state.about.get("shard_pairs"):
        kept = "in memory" if pairs is None else f"in shards of {pairs} pairs"
        raise InputError(
            f"{state.path} is of a training with the text {kept}; set shard_pairs as it was then."
        )
    for name in state.about.keys() - {"config", "chosen", "devices", "shard_pairs"}:
        if saved.get(name) != state.about[name]:
            raise InputError(f"{state.path} is of a training with other {name} pairs.")
    saved_config = Config.from_dict(saved["config"]).to_dict()  # With options that are newer.
    # What is null now, or may be cut, is compared when the text is encoded, see `record_chosen`.
    late = _nulls(_chosen(saved_config)) | _nulls(_chosen(state.about["config"]))
    free = {*_FREE, *late, "warmup_steps"}
    if saved_config["training"]["patience"] is None:
        free.remove("patience")  # The epochs around the best may be gone.
    _check_equal(
        state,
        {name: value for section in _COMPARED for name, value in saved_config[section].items()},
        {n: value for section in _COMPARED for n, value in state.about["config"][section].items()},
        free,
    )


_COMPARED = ("model", "data", "training")


def _chosen(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the settings that `fitting.defaults` chooses where they are null."""
    names = ("vocabulary_size", "batch_tokens", *(f.name for f in dataclasses.fields(Fit)))
    return {name: values[name] for values in sections.values() for name in names if name in values}


def _nulls(values: Mapping[str, Any]) -> set[str]:
    return {name for name, value in values.items() if value is None}


def record_chosen(state: TrainingState, config: Config) -> None:
    """Records the settings that are chosen once the text is encoded.

    Args:
        state: What `open_state` returned.
        config: With all that was chosen.

    Raises:
        InputError: The training that goes on had others.
    """
    state.about["chosen"] = _chosen(config.to_dict())
    if not state.about_before:
        return
    before = state.about_before.get("chosen")  # None before there were any: all were set.
    if before is None:
        before = _chosen(Config.from_dict(state.about_before["config"]).to_dict())
    # A cosine ends with the last epoch.
    free = {"epochs"} if config.training.schedule == "inverse_square_root" else set()
    free |= _nulls(state.about["chosen"])  # Batches that the caller made of ids.
    _check_equal(state, before, state.about["chosen"], free)


def _check_equal(
    state: TrainingState, before: Mapping[str, Any], now: Mapping[str, Any], free: set[str]
) -> None:
    for name, value in now.items():
        if before[name] != value and name not in free:
            raise InputError(
                f"{state.path} is of a training with {name}={before[name]!r}; got {name}={value!r}."
            )


def _epochs_after_the_best(history: Mapping[str, list[float]]) -> int:
    # Not by val_loss: Keras weighs a batch's loss by its rows, however few tokens they hold.
    perplexities = history.get("val_perplexity", [np.inf])
    return len(perplexities) - 1 - int(np.argmin(perplexities))
