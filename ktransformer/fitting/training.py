"""Training: from parallel text and a configuration to a run."""

import collections
import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ktransformer.config import Config, DataConfig, ModelConfig, TrainingConfig
from ktransformer.errors import InputError, first_line
from ktransformer.files import check_folder
from ktransformer.fitting.adapting import adapt
from ktransformer.fitting.bleu import BleuCallback
from ktransformer.fitting.compiling import compile_training_model
from ktransformer.fitting.fingerprint import CHOSEN_FOR_TEXT, record_chosen
from ktransformer.fitting.folder import (
    LockedFolder,
    check_removable,
    lock_checkpoints,
    remove_state,
)
from ktransformer.fitting.from_batches import fit_model, open_state
from ktransformer.fitting.guiding import guide, with_alignment
from ktransformer.fitting.mixture import Mixture
from ktransformer.fitting.pair_batches import make_batches
from ktransformer.fitting.start import FRESH, Fresh, FromRun, Resume, Start
from ktransformer.fitting.training_text import (
    InMemoryText,
    MixedText,
    StreamedText,
    digest_text,
    digests_of,
    mix_batches,
)
from ktransformer.saving.run import Run, make_model
from ktransformer.tasks import Translator
from ktransformer.tasks.span_copier import COPIED_BY_DEFAULT
from ktransformer.text import ParallelFiles, ParallelText
from ktransformer.text.batches import EpochBatches

_log = logging.getLogger(__name__)
_MANY = 10**6  # Batches of an epoch whose number is not known yet.


def train(
    config: Config,
    text: ParallelText | ParallelFiles | Mixture,
    validation: ParallelText | None = None,
    *,
    checkpoints: str | Path | LockedFolder,
    start: Start = FRESH,
    mix: ParallelText | ParallelFiles | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Trains a Transformer on parallel text.

    In the scope of a `tf.distribute.MirroredStrategy` its replicas share the rows of every batch.
    The updates equal those of a single device up to rounding, except that dropout differs.

    Args:
        config: The settings.
        text: The training pairs; files are streamed, with `shard_pairs` pairs in memory at a time;
            or several texts, as `open_corpora` opens them.
        validation: Pairs for the validation loss and BLEU, or None.
        checkpoints: Folder for the state of the training, the weights of its last epochs and
            streamed text, encoded; `remove_checkpoints` it when the run is saved. To hold it
            until then, pass what `lock_checkpoints` yields.
        start: `Fresh()` weights and tokenizers, or those of a run, `FromRun(run)`; both replace
            what an earlier training left in `checkpoints`. `Resume()` continues that training
            instead: it ends as if it had not been cut, bit for bit.
        mix: Pairs of which every epoch gets `mix_share` of its batches, such as the text that the
            run to start from was trained on, against forgetting; of files with more than
            `shard_pairs` pairs a sample of so many. It stands for a `Mixture` of `text` and `mix`
            with the weights 1 - `mix_share` and `mix_share`.
        callbacks: Further Keras callbacks.

    Returns:
        The run, its weights averaged over the last epochs; with `patience` set, over those up to
        the one with the best validation perplexity.

    Raises:
        InputError: The text or the settings do not fit, the settings are not those of the run to
            start from, the state is of another training, another training holds `checkpoints`, or
            the loss becomes NaN.

    Example:
        ```python
        run = load_run("runs/news")
        config = run.config.replace({"epochs": 2, "learning_rate": 1e-4})
        tuned = train(config, text, checkpoints="runs/tuned.checkpoints", start=FromRun(run))
        ```
    """
    if not isinstance(text, Mixture):
        share = config.data.mix_share
        text = Mixture([text]) if mix is None else Mixture([text, mix], [1 - share, share])
    elif mix is not None:
        raise InputError("mix must be None with a Mixture, which has all texts; got another text.")
    with lock_checkpoints(checkpoints) as folder:
        return _train(config, text, validation, folder.path, start, callbacks)


def _train(
    config: Config,
    mixture: Mixture,
    validation: ParallelText | None,
    folder: Path,
    start: Start,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Run:
    if validation is None and config.training.patience is not None:
        raise InputError("patience needs validation text to watch; got none.")
    resume = isinstance(start, Resume)
    beginning: Fresh | FromRun = start.beginning if isinstance(start, Resume) else start
    config = beginning.configure(config)
    if config.training.lora_rank and isinstance(beginning, Fresh):
        raise InputError(
            "lora_rank needs a run to start from, FromRun(run) or --from; got "
            f"lora_rank={config.training.lora_rank}."
        )
    _check(config)
    if not resume:
        check_removable(folder)
    keras.utils.set_random_seed(config.training.seed)
    training: InMemoryText | StreamedText
    text, *others = mixture.texts
    if isinstance(text, ParallelFiles):
        training = StreamedText(text, config, folder, reuse=resume)
    else:
        training = InMemoryText(text, config)
    mixed = [MixedText(other, config) for other in others]
    fingerprint = {
        **training.fingerprint,
        "validation": validation and digest_text(validation),
        "mix": ",".join(each.fingerprint for each in mixed) or None,
        "weights": mixture.weights and list(mixture.weights),
        "start": beginning.fingerprint(),
    }
    state = open_state(folder, config, fingerprint, resume=resume)
    given = config.data
    batches: EpochBatches
    tokenizers, batches = training.encode(beginning.tokenizers, [each.text for each in mixed])
    config, (source, target) = training.config, tokenizers
    _log_choice(given, config.data)
    if mixed:
        batches = mix_batches(batches, mixed, tokenizers, config, mixture.weights)
    for name, digest in digests_of(tokenizers).items():
        state.record_fingerprint(name, digest)
    record_chosen(state, {name: getattr(config.data, name) for name in CHOSEN_FOR_TEXT})
    validation_batches: EpochBatches | None = None
    if validation is not None:
        validation_batches = make_batches(
            "Validation text", tokenizers, validation, config, shuffle=False
        )
    if config.training.guided_alignment:
        batches, validation_batches = guide(batches, validation_batches, tokenizers)
    model = beginning.make_model(config, tokenizers)
    if config.decoding.tag is not None:
        source.tag_id(config.decoding.tag)  # Raises now, not when the run is opened.
    # The texts of a training have their tags.
    greedy = dataclasses.replace(config.decoding, beam_size=1, tag=None)
    translator = Translator(model, source, greedy, target_tokenizer=target)
    if not resume:
        remove_state(folder)  # Of an earlier training; from here on nothing else is refused.
    result = fit_model(
        model,
        config.training,
        batches,
        validation_batches,
        state=state,
        callbacks=[*_callbacks(config.training, translator, validation), *callbacks],
    )
    config = dataclasses.replace(config, training=result.training)
    if config.data.copy_share and not config.decoding.copy:
        config = config.replace({"copy": (*COPIED_BY_DEFAULT, "unknown")})
    if config.training.guided_alignment:
        config = with_alignment(config, model)
    other = None if target is source else target
    history = result.history | _dropped(training, *mixed)
    return Run(config, source, result.model, history, other, result.adapter)


def _dropped(*texts: InMemoryText | StreamedText | MixedText) -> dict[str, list[float]]:
    """Returns the number of pairs that cleaning dropped, of all texts, as a part of the history."""
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        for reason, count in text.dropped.items():
            counts[f"dropped_{reason.replace(' ', '_')}"] += count
    return {name: [float(count)] for name, count in counts.items()}


def _check(config: Config) -> None:
    """Creates, compiles and calls a small model, to report bad settings before encoding text."""
    config.decoding.check_lengths(config.model.max_length)
    if config.training.tensorboard and "://" not in config.training.tensorboard:
        check_folder(config.training.tensorboard)
    own = None if config.data.shared_vocabulary else 8
    model = make_model(config, 8, source_vocabulary_size=own)
    adapt(model, config.training)
    compile_training_model(model, config.training, steps_per_epoch=_MANY)
    _check_call(model, config.model)


def _log_choice(before: DataConfig, chosen: DataConfig) -> None:
    """Logs the settings of the data that were null and have been chosen."""
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
