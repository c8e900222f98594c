"""Training: from parallel text and a configuration to a run."""

import contextlib
import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransformer.config import Config, DataConfig, ModelConfig
from ktransformer.errors import InputError, first_line
from ktransformer.files import check_folder
from ktransformer.fitting.adapting import adapt
from ktransformer.fitting.compiling import compile_training_model, count_devices
from ktransformer.fitting.fingerprint import CHOSEN_FOR_TEXT, digests_of, record_chosen
from ktransformer.fitting.folder import (
    LockedFolder,
    check_removable,
    lock_checkpoints,
    remove_state,
)
from ktransformer.fitting.from_batches import fit_model, open_state
from ktransformer.fitting.guiding import with_alignment
from ktransformer.fitting.mixture import Mixture
from ktransformer.fitting.processes import agree, process_count
from ktransformer.fitting.start import FRESH, Fresh, FromRun, Resume, Start
from ktransformer.fitting.tensorflow_process import DistantData, open_data
from ktransformer.saving.card import Origin
from ktransformer.saving.run import Run, make_model
from ktransformer.text import ParallelFiles, ParallelText

if TYPE_CHECKING:
    from ktransformer.fitting.training_data import Texts, TrainingData
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
    encode_on: str | None = None,
) -> Run:
    """Trains a Transformer on parallel text.

    In the scope of a `tf.distribute.MirroredStrategy` its replicas share the rows of every batch.
    The updates equal those of a single device up to rounding, except that dropout differs. On JAX
    the devices of a `data_parallel` scope do so, and the processes that `join_processes` joined.

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
        encode_on: The address of a Ray cluster that encodes streamed text: `local`, `auto` or
            `HOST:PORT`; None for this process. It changes no bit of the training.

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
    mixture = text if isinstance(text, Mixture) else Mixture([text])
    if mix is not None:
        mixture = add_mix(mixture, mix, config.data)
    read = functools.partial(_texts, mixture, validation)
    with contextlib.ExitStack() as stack:
        locked = agree(lambda: stack.enter_context(lock_checkpoints(checkpoints)))
        return train_on(
            read,
            config,
            checkpoints=locked,
            start=start,
            callbacks=callbacks,
            encode_on=encode_on,
        )


def add_mix(mixture: Mixture, mix: ParallelText | ParallelFiles, data: DataConfig) -> Mixture:
    """Returns a text with another one mixed in, `mix_share` of the batches.

    Raises:
        InputError: There are several texts, or weights.
    """
    if len(mixture.texts) > 1 or mixture.weights is not None:
        raise InputError("mix must be None with a Mixture, which has all texts; got another text.")
    return Mixture([*mixture.texts, mix], [1 - data.mix_share, data.mix_share])


def _texts(mixture: Mixture, validation: ParallelText | None) -> "Texts":
    return mixture, validation


def train_on(
    read: "Callable[[], Texts]",
    config: Config,
    *,
    checkpoints: LockedFolder,
    start: Start = FRESH,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    encode_on: str | None = None,
) -> Run:
    """Trains as `train` does, on texts that are read where they are encoded.

    On JAX that is another process, see `tensorflow_process`.

    Args:
        read: Returns the training texts and the pairs to validate on, or None; can be pickled.
        config: As `train`.
        checkpoints: The locked folder.
        start: As `train`.
        callbacks: As `train`.
        encode_on: As `train`.

    Raises:
        InputError: As `train`.
    """
    folder = checkpoints.path
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
        agree(lambda: check_removable(folder))
    keras.utils.set_random_seed(config.training.seed)
    with _open_data(read, config, folder, reuse=resume, encode_on=encode_on) as data:
        fingerprint, dropped = data.describe()
        fingerprint = {**fingerprint, "start": beginning.fingerprint()}
        state = open_state(folder, config, fingerprint, resume=resume)
        encoded = data.encode(beginning.tokenizers)
        config, tokenizers = encoded.config, encoded.tokenizers
        for name, digest in digests_of(tokenizers).items():
            state.record_fingerprint(name, digest)
        record_chosen(state, {name: getattr(config.data, name) for name in CHOSEN_FOR_TEXT})
        model = beginning.make_model(config, tokenizers)
        bleu = data.bleu_callback(model)
        own: list[keras.callbacks.Callback] = [] if bleu is None else [bleu]
        if config.training.tensorboard:
            own += _boards(config.training.tensorboard, encoded.batches, bleu)
        if not resume:
            # Of an earlier training; from here on nothing else is refused.
            agree(lambda: remove_state(folder))
        result = fit_model(
            model,
            config.training,
            encoded.batches,
            encoded.validation,
            state=state,
            callbacks=[*own, *callbacks],
        )
    config = dataclasses.replace(config, training=result.training)
    if config.training.guided_alignment:
        config = with_alignment(config, model)
    source, target = tokenizers
    other = None if target is source else target
    origin = Origin(
        encoded.facts,
        state.seconds,
        "{processor}, {cores} cores, {backend}".format(**state.environment),
        beginning.describe(),
        encoded.scored,
        encoded.signature,
    )
    return Run(
        config, source, result.model, result.history | dropped, other, result.adapter, origin
    )


def _boards(folder: str, batches: "EpochBatches", bleu: Any) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that write TensorBoard's logs; `bleu` has the texts, or is None."""
    from ktransformer.fitting.board import TEXTS, TrainingBoard

    shown = (
        {}
        if bleu is None
        else {
            "translator": bleu.engine.translator,
            "sources": bleu.sources[:TEXTS],
            "references": bleu.references[:TEXTS],
        }
    )
    tokens = batches.tokens / batches.steps_per_epoch
    return [keras.callbacks.TensorBoard(folder), TrainingBoard(folder, tokens, **shown)]


def _open_data(
    read: "Callable[[], Texts]", config: Config, folder: Path, **options: Any
) -> "contextlib.AbstractContextManager[TrainingData | DistantData]":
    """Opens the data of a training where TensorFlow may run."""
    options["devices"] = count_devices()
    if keras.backend.backend() == "tensorflow":
        from ktransformer.fitting.training_data import TrainingData

        return contextlib.nullcontext(TrainingData(read, config, folder, **options))
    return open_data(read, config, folder, **options)


def _check(config: Config) -> None:
    """Creates, compiles and calls a small model, to report bad settings before encoding text."""
    config.decoding.check_lengths(config.model.max_length)
    if config.training.tensorboard and keras.backend.backend() != "tensorflow":
        raise InputError(
            "tensorboard needs the training on TensorFlow, which writes its files; got "
            f"tensorboard={config.training.tensorboard!r} on {keras.backend.backend()}."
        )
    if config.training.tensorboard and "://" not in config.training.tensorboard:
        check_folder(config.training.tensorboard)
    own = None if config.data.shared_vocabulary else 8
    model = make_model(config, 8, source_vocabulary_size=own)
    adapt(model, config.training)
    compile_training_model(model, config.training, steps_per_epoch=_MANY)
    if process_count() == 1:  # Several devices of several processes take no small batch.
        _check_call(model, config.model)


def _check_call(model: keras.Model, options: ModelConfig) -> None:
    ids = np.array([[4, 3]])  # No longer than the shortest `max_length`.
    try:
        model({"source": ids, "target": ids})
    except _call_errors() as error:
        changed = ", ".join(
            f"{name}={value!r}"
            for name, value in dataclasses.asdict(options).items()
            if value != getattr(ModelConfig(), name)
        )
        # Keras puts the message itself in bold, between the layer's name and its arguments.
        message = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
        reason = " ".join((message[1] if message else first_line(error)).split())
        raise InputError(f"A model with {changed} cannot be called: {reason}") from error


def _call_errors() -> tuple[type[Exception], ...]:
    """Returns the errors of a call with settings that do not go together."""
    if keras.backend.backend() != "tensorflow":
        return ValueError, TypeError
    import tensorflow as tf

    return ValueError, TypeError, tf.errors.OpError
