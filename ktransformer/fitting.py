"""Training: from parallel text and a configuration to a run."""

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import sacrebleu

from ktransformer.config import Config, DecodingConfig, TrainingConfig
from ktransformer.errors import InputError
from ktransformer.files import new_file
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.metrics import Perplexity, TokenAccuracy
from ktransformer.models import Transformer
from ktransformer.run import Run, make_model
from ktransformer.schedules import InverseSquareRoot
from ktransformer.serving import ModelEngine, Translator, translate_lines
from ktransformer.text import ParallelText, TokenBatches, Tokenizer

_log = logging.getLogger(__name__)


class BleuCallback(keras.callbacks.Callback):
    """Translates validation text after each epoch, in-graph, and logs its BLEU.

    Args:
        translator: A translator around the model that is being fitted.
        sources: The texts to translate.
        references: Their translations.
        batch_size: Texts translated at once.
        name: The name that the score is logged under.
    """

    def __init__(
        self,
        translator: Translator,
        sources: Sequence[str],
        references: Sequence[str],
        *,
        batch_size: int = 64,
        name: str = "val_bleu",
    ) -> None:
        super().__init__()
        self.engine = ModelEngine(translator)
        self.sources = list(sources)
        self.references = list(references)
        self.batch_size = batch_size
        self.name = name

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the score to the epoch's logs."""
        lines = translate_lines(self.engine, self.sources, batch_size=self.batch_size)
        outputs = [line.text for line in lines]
        score = sacrebleu.corpus_bleu(outputs, [self.references]).score
        if logs is not None:
            logs[self.name] = score


class LastCheckpoints(keras.callbacks.Callback):
    """Saves the weights after each epoch and keeps the last few.

    Args:
        folder: Where to; made if missing.
        keep: How many epochs' weights to keep.
    """

    def __init__(self, folder: str | Path, *, keep: int) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.keep = keep
        self.paths: list[Path] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes this epoch's weights beside the others, then drops the oldest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch-{epoch + 1:04d}.npz"
        with new_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, *self.model.get_weights())
        self.paths.append(path)
        while len(self.paths) > self.keep:
            self.paths.pop(0).unlink()


def remove_checkpoints(folder: str | Path) -> None:
    """Removes what `LastCheckpoints` wrote, and the folder if nothing else is in it."""
    folder = Path(folder)
    for path in folder.glob("epoch-*.npz"):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class StopAtNaN(keras.callbacks.Callback):
    """Ends the training with an `InputError` when the loss is no longer a finite number."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss; it is a mean over the epoch, which one NaN is enough to spoil."""
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            update = int(self.model.optimizer.iterations)
            raise InputError(
                f"The loss is not a finite number after update {update}; lower learning_rate, "
                "raise warmup_steps or set clip_norm."
            )


def average_checkpoints(model: keras.Model, paths: Sequence[str | Path]) -> None:
    """Sets a model's weights to the mean of several checkpoints'.

    Args:
        model: The model; its present weights are lost.
        paths: Files that `LastCheckpoints` wrote.

    Raises:
        ValueError: `paths` is empty.
    """
    if not paths:
        raise ValueError("paths must name at least one checkpoint; got none.")
    sums = [np.zeros(weight.shape, "float64") for weight in model.weights]
    for path in paths:
        with np.load(path) as checkpoint:
            for total, name in zip(sums, checkpoint.files, strict=True):
                total += checkpoint[name]
    model.set_weights([total / len(paths) for total in sums])


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
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Trains a tokenizer and a Transformer on parallel text.

    Args:
        config: What to train, and how.
        text: The training pairs.
        validation: Pairs for the validation loss and BLEU, or None.
        checkpoints: Folder for the weights of the last epochs; `remove_checkpoints` it when the
            run is saved.
        callbacks: Further Keras callbacks.

    Returns:
        The run, its weights averaged over the last epochs; with `patience` set, over those up to
        the one with the best validation perplexity.

    Raises:
        InputError: The text or the configuration does not fit, or the loss becomes NaN.
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
    compile_model(model, options)
    # Keras stops at the first worse epoch at the earliest, also when patience is 0.
    later = 0 if options.patience is None else max(options.patience, 1)
    keeper = LastCheckpoints(checkpoints, keep=options.average_checkpoints + later)
    with _stdout_to_stderr():
        history = model.fit(
            prepared.train.dataset(),
            steps_per_epoch=prepared.train.steps_per_epoch,
            epochs=options.epochs,
            validation_data=prepared.validation and prepared.validation.dataset(),
            validation_steps=prepared.validation and prepared.validation.steps_per_epoch,
            callbacks=[
                *_callbacks(options, Translator(model, tokenizer, _greedy(config)), validation),
                keeper,
                *callbacks,
            ],
            shuffle=False,  # TokenBatches shuffles.
            verbose=1 if sys.stderr.isatty() else 2,
        )
    trained = make_model(config, tokenizer.vocabulary_size)  # Without the optimizer.
    if options.patience is not None:
        later = _epochs_after_the_best(history.history)
    paths = keeper.paths[: len(keeper.paths) - later]
    average_checkpoints(trained, paths[-options.average_checkpoints :])
    values = {name: [float(v) for v in series] for name, series in history.history.items()}
    return Run(config, tokenizer, trained, values)


def _prepare(
    config: Config, tokenizer: Tokenizer, text: ParallelText, validation: ParallelText | None
) -> _Prepared:
    """Encodes the text and says what is left out of it."""

    def batches(name: str, pairs: ParallelText, shuffle: bool) -> TokenBatches:
        made = TokenBatches(
            tokenizer.encode_lines(pairs.sources),
            tokenizer.encode_lines(pairs.targets),
            batch_tokens=config.data.batch_tokens,
            max_length=config.model.max_length,
            bucket_step=config.data.bucket_step,
            shuffle=shuffle,
            seed=config.training.seed,
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
        batches("Training text", text, shuffle=True),
        None if validation is None else batches("Validation text", validation, shuffle=False),
    )


def _epochs_after_the_best(history: dict[str, list[float]]) -> int:
    perplexities = history["val_perplexity"]
    return len(perplexities) - 1 - int(np.argmin(perplexities))


def _callbacks(
    options: TrainingConfig, translator: Translator, validation: ParallelText | None
) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = [StopAtNaN()]
    if validation is not None and options.bleu_sentences:
        chosen = slice(0, options.bleu_sentences)
        callbacks.append(
            BleuCallback(translator, validation.sources[chosen], validation.targets[chosen])
        )
    if options.patience is not None:
        # Not val_loss: Keras weighs a batch's loss by its rows, however few tokens they hold.
        callbacks.append(
            keras.callbacks.EarlyStopping("val_perplexity", mode="min", patience=options.patience)
        )
    if options.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(options.tensorboard))
    return callbacks


def _greedy(config: Config) -> DecodingConfig:
    return dataclasses.replace(config.decoding, beam_size=1)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keeps results (stdout) free of Keras' progress bar."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
