"""Training: from parallel text and a configuration to a run."""

import dataclasses
import hashlib
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
from ktransformer.fitting.resuming import TrainingState, fit
from ktransformer.fitting.training_model import TrainingModel
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.metrics import Perplexity, TokenAccuracy
from ktransformer.models import Transformer
from ktransformer.run import Run, make_model
from ktransformer.schedules import InverseSquareRoot
from ktransformer.serving import Translator
from ktransformer.text import ParallelText, SubwordSampler, TokenBatches, Tokenizer

_log = logging.getLogger(__name__)


def compile_model(model: Transformer, config: TrainingConfig) -> None:
    """Compiles a model with the loss, optimizer, schedule and metrics of a configuration."""
    model.compile(
        optimizer=_make_optimizer(config),
        loss=SmoothedCrossEntropy(config.label_smoothing),
        metrics=[TokenAccuracy(), Perplexity()],
    )


def compile_training_model(model: Transformer, config: TrainingConfig) -> TrainingModel:
    """Compiles what does the same to the model's weights, with less memory and time.

    Returns:
        What to `fit`; the model is ready for use after it.
    """
    training_model = TrainingModel(model, label_smoothing=config.label_smoothing)
    training_model.compile(optimizer=_make_optimizer(config))
    return training_model


def _make_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(
        InverseSquareRoot(config.learning_rate, config.warmup_steps),
        beta_1=0.9,
        beta_2=0.98,
        epsilon=1e-9,
        global_clipnorm=config.clip_norm,
    )


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """Text that is ready for `fit`."""

    train: TokenBatches
    validation: TokenBatches | None


def train(
    config: Config,
    text: ParallelText,
    validation: ParallelText | None = None,
    *,
    checkpoints: str | Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Trains a tokenizer and a Transformer on parallel text.

    Args:
        config: What to train, and how.
        text: The training pairs.
        validation: Pairs for the validation loss and BLEU, or None.
        checkpoints: Folder for the state of the training and the weights of its last epochs;
            `remove_checkpoints` it when the run is saved.
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
    tokenizer = Tokenizer.train(
        [*text.sources, *text.targets],
        config.data.vocabulary_size,
        split_digits=config.data.split_digits,
        character_coverage=config.data.character_coverage,
    )
    prepared = _prepare(config, tokenizer, text, validation)
    model = make_model(config, tokenizer.vocabulary_size)
    _log.info(
        "Training %s parameters, a vocabulary of %s, %s updates an epoch.",
        f"{model.count_params():,}",
        f"{tokenizer.vocabulary_size:,}",
        f"{prepared.train.steps_per_epoch:,}",
    )
    training_model = compile_training_model(model, options)
    state = TrainingState(
        Path(checkpoints) / "training.npz",
        minutes=options.checkpoint_minutes,
        about={
            "config": config.to_dict(),
            "text": _digest(text),
            "validation": validation and _digest(validation),
        },
    )
    if resume and state.path.is_file():
        _check_same(state.read(), state)
        _log.info("Going on after update %s.", f"{state.update:,}")
    later = 0 if options.patience is None else max(options.patience, 1)  # Epochs after the best.
    keeper = LastCheckpoints(checkpoints, keep=options.average_checkpoints + later)
    fit(
        training_model,
        prepared.train,
        state,
        epochs=options.epochs,
        enough=lambda history: later > 0 and _epochs_after_the_best(history) >= later,
        validation=prepared.validation,
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


def _digest(text: ParallelText) -> str:
    """Returns the SHA-256 of all pairs in their order."""
    digest = hashlib.sha256()
    for line in (*text.sources, *text.targets):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


# What may be another when a training goes on: it changes nothing that was already done.
_FREE = ("epochs", "patience", "checkpoint_minutes", "tensorboard")


def _check_same(saved: Mapping[str, Any], state: TrainingState) -> None:
    """Checks that a training that goes on is the one that was cut."""
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


def _prepare(
    config: Config, tokenizer: Tokenizer, text: ParallelText, validation: ParallelText | None
) -> _Prepared:
    """Encodes the text and says what is left out of it."""

    def batches(
        name: str, pairs: ParallelText, shuffle: bool, alpha: float | None = None
    ) -> TokenBatches:
        samplers = None
        if alpha is not None:
            source, target = (
                SubwordSampler(tokenizer, side, alpha=alpha)
                for side in (pairs.sources, pairs.targets)
            )
            samplers = source, target
        made = TokenBatches(
            tokenizer.encode_lines(pairs.sources),
            tokenizer.encode_lines(pairs.targets),
            batch_tokens=config.data.batch_tokens,
            max_length=config.model.max_length,
            bucket_step=config.data.bucket_step,
            shuffle=shuffle,
            seed=config.training.seed,
            samplers=samplers,
        )
        _log.info(
            "%s: %s pairs; left out: %s with an empty side, %s over %s tokens.",
            name,
            f"{len(pairs) - made.too_long:,}",
            f"{pairs.empty:,}",
            f"{made.too_long:,}",
            config.model.max_length,
        )
        return made

    return _Prepared(
        batches("Training text", text, shuffle=True, alpha=config.data.subword_alpha),
        None if validation is None else batches("Validation text", validation, shuffle=False),
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
