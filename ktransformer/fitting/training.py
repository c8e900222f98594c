"""Training: from parallel text and a configuration to a run."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.config import Config, DecodingConfig, TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting.averaging import LastCheckpoints, average_checkpoints
from ktransformer.fitting.bleu import BleuCallback
from ktransformer.fitting.preparation import (
    HeldText,
    StreamedText,
    digest_text,
    make_batches,
)
from ktransformer.fitting.resuming import TrainingState, fit
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.metrics import Perplexity, TokenAccuracy
from ktransformer.models import Transformer
from ktransformer.run import Run, make_model
from ktransformer.schedules import InverseSquareRoot
from ktransformer.serving import Translator
from ktransformer.text import ParallelFiles, ParallelText

_log = logging.getLogger(__name__)


def compile_model(model: Transformer, config: TrainingConfig) -> None:
    """Compiles a model with the loss, optimizer, schedule and metrics of a configuration."""
    model.compile(
        optimizer=keras.optimizers.Adam(
            InverseSquareRoot(config.learning_rate, config.warmup_steps),
            beta_1=0.9,
            beta_2=0.98,
            epsilon=1e-9,
            global_clipnorm=config.clip_norm,
        ),
        loss=SmoothedCrossEntropy(config.label_smoothing),
        metrics=[TokenAccuracy(), Perplexity()],
    )


def train(
    config: Config,
    text: ParallelText | ParallelFiles,
    validation: ParallelText | None = None,
    *,
    checkpoints: str | Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Trains a tokenizer and a Transformer on parallel text.

    Args:
        config: What to train, and how.
        text: The training pairs; what stays in its files is streamed, of which `shard_pairs` pairs
            are in memory at a time.
        validation: Pairs for the validation loss and BLEU, or None.
        checkpoints: Folder for the state of the training, the weights of its last epochs and text
            that is streamed, encoded; `remove_checkpoints` it when the run is saved.
        resume: Whether to go on from the state in `checkpoints`, if one is there: a training that
            was cut ends as if it had not been, to the bit.
        callbacks: Further Keras callbacks.

    Returns:
        The run, its weights averaged over the last epochs; with `patience` set, over those up to
        the one with the best validation perplexity.

    Raises:
        InputError: The text or the configuration does not fit, the state is of another training,
            or the loss becomes NaN.
    """
    options = config.training
    if validation is None and options.patience is not None:
        raise InputError("patience needs validation text to watch; got none.")
    keras.utils.set_random_seed(options.seed)
    checkpoints = Path(checkpoints)
    training: HeldText | StreamedText
    if isinstance(text, ParallelFiles):
        training = StreamedText(text, config, checkpoints, reuse=resume)
    else:
        training = HeldText(text, config)
    state = TrainingState(
        checkpoints / "training.npz",
        minutes=options.checkpoint_minutes,
        about={
            "config": config.to_dict(),
            **training.about,
            "validation": validation and digest_text(validation),
        },
    )
    if resume and state.path.is_file():
        _check_same(state.read(), state)
        _log.info("Going on after update %s.", f"{state.update:,}")
    tokenizer, batches = training.encode()
    validation_batches = None
    if validation is not None:
        validation_batches = make_batches(
            "Validation text", tokenizer, validation, config, shuffle=False
        )
    model = make_model(config, tokenizer.vocabulary_size)
    _log.info(
        "Training %s parameters, a vocabulary of %s, %s updates an epoch.",
        f"{model.count_params():,}",
        f"{tokenizer.vocabulary_size:,}",
        f"{batches.steps_per_epoch:,}",
    )
    compile_model(model, options)
    later = 0 if options.patience is None else max(options.patience, 1)  # Epochs after the best.
    keeper = LastCheckpoints(checkpoints, keep=options.average_checkpoints + later)
    fit(
        model,
        batches,
        state,
        epochs=options.epochs,
        enough=lambda history: later > 0 and _epochs_after_the_best(history) >= later,
        validation=validation_batches,
        callbacks=[
            *_callbacks(options, Translator(model, tokenizer, _greedy(config)), validation),
            keeper,
            *callbacks,
        ],
    )
    trained = make_model(config, tokenizer.vocabulary_size)  # Without the optimizer.
    last = len(state.history["loss"])
    if later:
        last -= _epochs_after_the_best(state.history)
    average_checkpoints(trained, keeper.last(options.average_checkpoints, last))
    return Run(config, tokenizer, trained, state.history)


# What may be another when a training goes on: it changes nothing that was already done.
_FREE = ("epochs", "patience", "checkpoint_minutes", "tensorboard", "shard_pairs")


def _check_same(saved: Mapping[str, Any], state: TrainingState) -> None:
    """Checks that a training that goes on is the one that was cut."""
    before = saved.get("shard_pairs")  # None for text in memory, however many pairs that may hold.
    if before != state.about.get("shard_pairs"):
        kept = "in memory" if before is None else f"in shards of {before} pairs"
        raise InputError(
            f"{state.path} is of a training with the text {kept}; set shard_pairs as it was then."
        )
    for name in ("text", "validation"):
        if saved[name] != state.about[name]:
            raise InputError(f"{state.path} is of a training with other {name} pairs.")
    for section, values in state.about["config"].items():
        for name, value in values.items():
            before = saved["config"][section].get(name)
            if before != value and section != "decoding" and name not in _FREE:
                raise InputError(
                    f"{state.path} is of a training with {name}={before!r}; got {name}={value!r}."
                )


def _epochs_after_the_best(history: Mapping[str, list[float]]) -> int:
    # Not by val_loss: Keras weighs a batch's loss by its rows, however few tokens they hold.
    perplexities = history.get("val_perplexity", [np.inf])
    return len(perplexities) - 1 - int(np.argmin(perplexities))


def _callbacks(
    options: TrainingConfig, translator: Translator, validation: ParallelText | None
) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = []
    if validation is not None and options.bleu_sentences:
        chosen = slice(0, options.bleu_sentences)
        callbacks.append(
            BleuCallback(translator, validation.sources[chosen], validation.targets[chosen])
        )
    if options.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(options.tensorboard))
    return callbacks


def _greedy(config: Config) -> DecodingConfig:
    return dataclasses.replace(config.decoding, beam_size=1)
