"""Training: from parallel text and a configuration to a run."""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import keras

from ktransformer.config import Config, DecodingConfig, TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting.bleu import BleuCallback
from ktransformer.fitting.compiling import count_devices
from ktransformer.fitting.encoded import fit_transformer
from ktransformer.run import Run, make_model
from ktransformer.serving import Translator
from ktransformer.text import ParallelText, SubwordSampler, TokenBatches, Tokenizer

_log = logging.getLogger(__name__)


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

    In the scope of a `tf.distribute.MirroredStrategy` its replicas share the rows of every batch.
    The updates are those of a single device up to rounding, but for dropout, which differs.

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
    fitted = fit_transformer(
        model,
        config,
        prepared.train,
        prepared.validation,
        checkpoints=checkpoints,
        resume=resume,
        about={"text": _digest(text), "validation": validation and _digest(validation)},
        callbacks=[
            *_callbacks(options, Translator(model, tokenizer, _greedy(config)), validation),
            *callbacks,
        ],
    )
    return Run(config, tokenizer, fitted.model, fitted.history)


def _digest(text: ParallelText) -> str:
    """Returns the SHA-256 of all pairs in their order."""
    digest = hashlib.sha256()
    for line in (*text.sources, *text.targets):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


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
            copies=2 if config.training.rdrop_alpha else 1,
            row_multiple=count_devices(),
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
