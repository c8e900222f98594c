"""Starts a translation model's encoder from a masked language model, and compares.

    python -m training.masked_lm.warm_start \
        --source FILE --target FILE --validation-source FILE --validation-target FILE

A language model with the joint vocabulary is trained on the whole source side, and then, on the
first pairs alone, the same translation model twice, with equally many updates: from scratch, and
with the language model's embeddings and encoder. The settings are the language model's.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

import keras

from ktransformer.config import TrainingConfig
from ktransformer.fitting import compile_model
from ktransformer.models import MaskedLanguageModel, Transformer
from ktransformer.text import ParallelText, TokenBatches, Tokenizer, read_parallel
from training.masked_lm.language_model import fit_language_model
from training.masked_lm.settings import Settings, at_least_one
from training.programs import exit_status


def main() -> int:
    """Trains and compares; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, what in (("", "training"), ("validation-", "validation")):
        parser.add_argument(f"--{name}source", required=True, metavar="FILE", help=f"{what} text")
        parser.add_argument(f"--{name}target", required=True, metavar="FILE", help="translations")
    parser.add_argument("--pairs", type=at_least_one, default=8000, help="pairs to train on (8000)")
    parser.add_argument("--epochs", type=at_least_one, default=10, help="passes over them (10)")
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, help="peak for the translation models (0.002)"
    )
    Settings.add_arguments(parser)
    options = parser.parse_args()
    return exit_status("warm_start", lambda: warm_start(options))


def warm_start(options: argparse.Namespace) -> None:
    """Reads settings and texts, trains, and prints the comparison."""
    settings = Settings.from_arguments(options)
    text = read_parallel(options.source, options.target)
    validation = read_parallel(options.validation_source, options.validation_target)
    print(compare(settings, text, validation, options))


def compare(
    settings: Settings, text: ParallelText, validation: ParallelText, options: argparse.Namespace
) -> str:
    """Trains the three models; a Markdown table of the validation perplexities by epoch."""
    tokenizer = Tokenizer.train([*text.sources, *text.targets], settings.vocabulary_size, mask=True)
    trained, _ = fit_language_model(settings, tokenizer, text.sources, validation.sources)
    pairs = options.pairs
    batches = make_batches(settings, tokenizer, text.sources[:pairs], text.targets[:pairs])
    fixed = make_batches(settings, tokenizer, validation.sources, validation.targets, fixed=True)
    training = TrainingConfig(
        learning_rate=options.learning_rate,
        warmup_steps=2 * batches.steps_per_epoch,
        seed=settings.seed,
    )
    columns = []
    for language_model in (None, trained):
        keras.utils.set_random_seed(settings.seed)
        model = translation_model(settings, tokenizer.vocabulary_size)
        if language_model is not None:
            start_from(model, language_model)
        compile_model(model, training)
        columns.append(fit(model, batches, fixed, options.epochs))
    rows = [
        "| updates | validation perplexity from scratch | from the language model |",
        "| --- | --- | --- |",
    ]
    for epoch, values in enumerate(zip(*columns, strict=True), start=1):
        cells = " | ".join(f"{value:.2f}" for value in values)
        rows.append(f"| {epoch * batches.steps_per_epoch:,} | {cells} |")
    return "\n".join(rows)


def translation_model(settings: Settings, vocabulary_size: int) -> Transformer:
    """Creates a Transformer whose encoder is like the language model's, with fresh weights."""
    names = ("num_layers", "d_model", "num_heads", "hidden_dim", "dropout", "activation")
    sizes = {name: getattr(settings, name) for name in (*names, "positions", "max_length")}
    model = Transformer(vocabulary_size, name="transformer", **sizes)
    model.build()
    return model


def start_from(model: Transformer, language_model: MaskedLanguageModel) -> None:
    """Gives a Transformer the encoder and the embeddings of a language model of its sizes.

    The one table is the target's and the output projection's too.
    """
    model.encoder.set_weights(language_model.encoder.get_weights())
    model.source_embedding.set_weights(language_model.embedding.get_weights())


def make_batches(
    settings: Settings,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    fixed: bool = False,
) -> TokenBatches:
    """Encodes pairs and cuts them into batches, in the order of the text if `fixed`."""
    return TokenBatches(
        tokenizer.encode_lines(sources),
        tokenizer.encode_lines(targets),
        batch_tokens=settings.batch_tokens,
        max_length=settings.max_length,
        shuffle=not fixed,
        seed=settings.seed,
    )


def fit(model: Transformer, batches: TokenBatches, fixed: TokenBatches, epochs: int) -> list[float]:
    """Trains a compiled model; returns the validation perplexity after each epoch."""
    with contextlib.redirect_stdout(sys.stderr):
        history = model.fit(
            batches.dataset(),
            steps_per_epoch=batches.steps_per_epoch,
            epochs=epochs,
            validation_data=fixed.dataset(),
            validation_steps=fixed.steps_per_epoch,
            shuffle=False,  # TokenBatches shuffles.
            verbose=1 if sys.stderr.isatty() else 2,
        )
    return [float(value) for value in history.history["val_perplexity"]]


if __name__ == "__main__":
    sys.exit(main())
