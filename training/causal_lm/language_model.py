"""Fits a causal language model to lines of text."""

import tempfile
from collections.abc import Sequence

import keras

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting import FitResult, fit_model, open_state
from ktransformer.models import CausalLanguageModel
from ktransformer.text import PackedBatches, Tokenizer
from training.causal_lm.settings import Settings

_MODEL_SETTINGS = (
    "num_layers",
    "d_model",
    "num_heads",
    "num_kv_heads",
    "hidden_dim",
    "dropout",
    "activation",
    "positions",
    "norm",
    "feed_forward",
    "max_length",
)


def make_model(settings: Settings, tokenizer: Tokenizer) -> CausalLanguageModel:
    """Creates the model of the settings, built, with fresh weights.

    Raises:
        InputError: The sizes do not go together.
    """
    try:
        model = CausalLanguageModel(
            tokenizer.vocabulary_size,
            pad_id=tokenizer.special_ids.pad,
            segment_start_id=tokenizer.special_ids.start,
            **{name: getattr(settings, name) for name in _MODEL_SETTINGS},
        )
        model.build()
    except ValueError as error:
        raise InputError(str(error)) from error
    return model


def make_batches(
    settings: Settings, tokenizer: Tokenizer, lines: Sequence[str], *, shuffle: bool = True
) -> PackedBatches:
    """Encodes lines and packs them into batches.

    Raises:
        InputError: The lines and the settings do not go together.
    """
    return PackedBatches(
        tokenizer.encode_lines(lines),
        batch_tokens=settings.batch_tokens,
        max_length=settings.max_length,
        shuffle=shuffle,
        seed=settings.seed,
        special_ids=tokenizer.special_ids,
    )


def fit_language_model(
    settings: Settings, tokenizer: Tokenizer, lines: Sequence[str], validation: Sequence[str]
) -> FitResult:
    """Trains a model, with the optimizer and the schedule that a translator is trained with.

    Raises:
        InputError: The text and the settings do not go together, or the loss becomes NaN.
    """
    keras.utils.set_random_seed(settings.seed)
    names = ("epochs", "patience", "seed")
    config = Config().replace(
        {"label_smoothing": 0.0, **{name: getattr(settings, name) for name in names}}
    )
    with tempfile.TemporaryDirectory() as folder:
        return fit_model(
            make_model(settings, tokenizer),
            config.training,
            make_batches(settings, tokenizer, lines),
            make_batches(settings, tokenizer, validation, shuffle=False),
            state=open_state(folder, config, {}, resume=False),
        )
