"""Fits a masked language model to lines of text."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras

from ktransformer import tasks
from ktransformer.config import Config, TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting import fit_model, open_state
from ktransformer.models import MaskedLanguageModel
from ktransformer.tasks import MaskFiller
from ktransformer.text import MaskedBatches, Tokenizer
from training.masked_lm.settings import Settings

History = dict[str, list[float]]


def load(path: str | Path) -> MaskFiller:
    """Reads the folder that `train.py` wrote.

    Raises:
        InputError: It is damaged, or holds another kind of model.
    """
    filler = tasks.load(path)
    if not isinstance(filler, MaskFiller):
        raise InputError(f"{path} holds no masked language model.")
    return filler


def make_model(settings: Settings, vocabulary_size: int) -> MaskedLanguageModel:
    """Creates the model of the settings, built, with fresh weights.

    Raises:
        InputError: The sizes do not go together.
    """
    names = ("num_layers", "d_model", "num_heads", "hidden_dim", "dropout", "activation")
    sizes = {name: getattr(settings, name) for name in (*names, "positions", "max_length")}
    try:
        model = MaskedLanguageModel(vocabulary_size, name="masked_language_model", **sizes)
        model.build()
    except ValueError as error:
        raise InputError(str(error)) from error
    return model


def make_batches(
    settings: Settings, tokenizer: Tokenizer, lines: Sequence[str], *, fixed: bool = False
) -> MaskedBatches:
    """Encodes lines and cuts them into batches.

    Raises:
        InputError: The lines and the settings do not go together.
    """
    try:
        return MaskedBatches(
            tokenizer.encode_lines(lines),
            special_ids=tokenizer.special_ids,
            batch_tokens=settings.batch_tokens,
            max_length=settings.max_length,
            masked_share=settings.masked_share,
            fixed=fixed,
            seed=settings.seed,
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def fit_language_model(
    settings: Settings, tokenizer: Tokenizer, lines: Sequence[str], validation: Sequence[str]
) -> tuple[MaskedLanguageModel, History]:
    """Trains a model.

    Returns:
        The model, its weights averaged over the last epochs, or those of the last one where their
        validation perplexity is lower, and the metrics of each epoch.

    Raises:
        InputError: The text and the settings do not go together, or the loss becomes NaN.
    """
    keras.utils.set_random_seed(settings.seed)
    batches = make_batches(settings, tokenizer, lines)
    fixed = make_batches(settings, tokenizer, validation, fixed=True)
    model = make_model(settings, tokenizer.vocabulary_size)
    print(
        f"{model.count_params():,} parameters, {tokenizer.vocabulary_size:,} pieces, "
        f"{batches.steps_per_epoch:,} updates an epoch; {batches.too_long:,} lines left out.",
        file=sys.stderr,
    )
    training = TrainingConfig(
        epochs=settings.epochs,
        optimizer="adam",
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        average_checkpoints=settings.average_checkpoints,
        label_smoothing=0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        state = open_state(folder, Config(training=training), {}, resume=False)
        result = fit_model(model, training, batches, fixed, state=state)
    return result.model, result.history
