"""Training: from parallel text and a configuration to a run."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ktransformer.config import Config, DataConfig, DecodingConfig, ModelConfig, TrainingConfig
from ktransformer.errors import InputError, first_line
from ktransformer.files import check_folder
from ktransformer.fitting.bleu import BleuCallback
from ktransformer.fitting.compiling import compile_training_model
from ktransformer.fitting.encoded import agree, fit_transformer, open_state
from ktransformer.fitting.folder import check_removable, lock_checkpoints, remove_state
from ktransformer.fitting.preparation import (
    InMemoryText,
    StreamedText,
    digest_text,
    make_batches,
)
from ktransformer.saving.run import Run, make_model
from ktransformer.tasks import Translator
from ktransformer.text import ParallelFiles, ParallelText

_log = logging.getLogger(__name__)
_MANY = 10**6  # Batches of an epoch whose number is not known yet.


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

    In the scope of a `tf.distribute.MirroredStrategy` its replicas share the rows of every batch.
    The updates are those of a single device up to rounding, but for dropout, which differs.

    Args:
        config: What to train, and how.
        text: The training pairs; what stays in its files is streamed, of which `shard_pairs` pairs
            are in memory at a time.
        validation: Pairs for the validation loss and BLEU, or None.
        checkpoints: Folder for the state of the training, the weights of its last epochs and text
            that is streamed, encoded; `remove_checkpoints` it when the run is saved.
        resume: Whether to go on from the state in `checkpoints`, if one is there: a training that
            was cut ends as if it had not been, to the bit. Else what is there is removed.
        callbacks: Further Keras callbacks.

    Returns:
        The run, its weights averaged over the last epochs; with `patience` set, over those up to
        the one with the best validation perplexity.

    Raises:
        InputError: The text or the configuration does not fit, the state is of another training,
            another training is running in `checkpoints`, or the loss becomes NaN.
    """
    with lock_checkpoints(checkpoints):
        return train_locked(
            config, text, validation, checkpoints=checkpoints, resume=resume, callbacks=callbacks
        )


def train_locked(
    config: Config,
    text: ParallelText | ParallelFiles,
    validation: ParallelText | None = None,
    *,
    checkpoints: str | Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Does the same as `train` for one who holds the folder, with `lock_checkpoints`.

    So nobody else trains there before the run is saved.
    """
    if validation is None and config.training.patience is not None:
        raise InputError("patience needs validation text to watch; got none.")
    _check(config)
    checkpoints = Path(checkpoints)
    if not resume:
        check_removable(checkpoints)
    keras.utils.set_random_seed(config.training.seed)
    training: InMemoryText | StreamedText
    if isinstance(text, ParallelFiles):
        training = StreamedText(text, config, checkpoints, reuse=resume)
    else:
        training = InMemoryText(text, config)
    about = {**training.about, "validation": validation and digest_text(validation)}
    state = open_state(checkpoints, config, about, resume=resume)
    tokenizer, batches = training.encode()
    _log_choice(config.data, training.config.data)
    config = training.config
    agree(state, "tokenizer", tokenizer.sha256)
    validation_batches = None
    if validation is not None:
        validation_batches = make_batches(
            "Validation text", tokenizer, validation, config, shuffle=False
        )
    model = make_model(config, tokenizer.vocabulary_size)
    translator = Translator(model, tokenizer, _greedy(config))
    if not resume:
        remove_state(checkpoints)  # Of another training; nothing else is refused any more.
    fitted = fit_transformer(
        model,
        config,
        batches,
        validation_batches,
        state=state,
        callbacks=[*_callbacks(config.training, translator, validation), *callbacks],
    )
    return Run(fitted.config, tokenizer, fitted.model, fitted.history)


def _check(config: Config) -> None:
    """Makes, compiles and calls a small model: what does not fit is said before text is encoded."""
    config.decoding.check_lengths(config.model.max_length)
    if config.training.tensorboard and "://" not in config.training.tensorboard:
        check_folder(config.training.tensorboard)
    model = make_model(config, 8)
    compile_training_model(model, config.training, steps_per_epoch=_MANY)
    _check_call(model, config.model)


def _log_choice(before: DataConfig, chosen: DataConfig) -> None:
    """Logs which settings of the data were null and have been chosen."""
    values = dataclasses.asdict(chosen).items()
    words = [f"{name}={value}" for name, value in values if getattr(before, name) != value]
    if words:
        _log.info("Chosen for the size of the text: %s.", ", ".join(words))


def _check_call(model: keras.Model, options: ModelConfig) -> None:
    ids = np.array([[4, 3]])  # No longer than the shortest `max_length`.
    try:
        model({"source": ids, "target": ids})
    except (ValueError, TypeError, tf.errors.OpError) as error:
        changed = ", ".join(
            f"{name}={value!r}"
            for name, value in dataclasses.asdict(options).items()
            if value != getattr(ModelConfig(), name)
        )
        # Keras puts the message itself in bold, between the layer's name and its arguments.
        message = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
        reason = " ".join((message[1] if message else first_line(error)).split())
        raise InputError(f"A model with {changed} cannot be called: {reason}") from error


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
