"""Training a model on batches of ids; needs no tokenizer, and so no TensorFlow."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from ktransformer.config import Config, TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting.adapting import adapt, copy_model, split_adapter
from ktransformer.fitting.averaging import LastCheckpoints, epochs_after_best, final_weights
from ktransformer.fitting.compiling import compile_training_model, count_devices
from ktransformer.fitting.defaults import Fit
from ktransformer.fitting.fingerprint import check_fingerprint, record_chosen
from ktransformer.fitting.loop import Batches, fit
from ktransformer.fitting.planning import plan_training
from ktransformer.fitting.process_arrays import in_own_memory, whole_value
from ktransformer.fitting.processes import agree
from ktransformer.fitting.state import History, TrainingState
from ktransformer.saving.adapter import Adapter
from ktransformer.saving.weights import digest_arrays

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of a training.

    Attributes:
        model: The model with its final weights, not compiled; a plain one, without LoRA.
        history: The metrics of each epoch, `{"loss": [...], "val_loss": [...], ...}`; where the
            averaged weights were compared with the last epoch's, also the scores of the better
            ones, `{"final_val_loss": [x], ...}`, and the number of epochs they are averaged over,
            `{"final_averaged_epochs": [n]}`.
        training: The settings of the training, those that were null chosen.
        adapter: With `lora_rank`, the adapter that the model's weights were merged with.
    """

    model: keras.Model
    history: History
    training: TrainingConfig
    adapter: Adapter | None = None


def open_state(
    checkpoints: str | Path, config: Config, fingerprint: Mapping[str, Any], *, resume: bool
) -> TrainingState:
    """Opens the state of a training: a new one, or, to resume, the one in `checkpoints`.

    Args:
        checkpoints: The training's folder.
        config: The settings.
        fingerprint: Further properties that a resumed training must share with the one that was
            cut, such as the digest of the text, by name; JSON-serialisable.
        resume: Whether to resume from a state in the folder, if there is one.

    Raises:
        InputError: The state is damaged or of another training.
    """
    state = TrainingState(
        Path(checkpoints) / "training.npz",
        minutes=config.training.checkpoint_minutes,
        fingerprint={"config": config.to_dict(), "devices": count_devices(), **fingerprint},
    )
    if resume and agree(state.path.is_file):
        state.read()
        check_fingerprint(state)
        _log.info("Going on after update %s.", f"{state.update:,}")
    elif resume:
        _log.info("%s holds no state of a training; this one begins.", Path(checkpoints))
    return state


def fit_model(
    model: keras.Model,
    options: TrainingConfig,
    batches: Batches,
    validation: Batches | None = None,
    *,
    state: TrainingState,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Fits a model that predicts ids, starting from its present weights.

    Works on TensorFlow, also in the scope of a `tf.distribute` strategy, and on JAX, also under a
    `keras.distribution`: make model and batches under it, with a multiple of `count_devices()` rows
    in every batch.

    Args:
        model: A built `Transformer`, or another model that gives logits `[B, T, V]` for labels
            `[B, T]`, has `d_model`, `vocabulary_size`, `pad_id` and `has_plain_logits`, and can be
            recreated by `from_config(get_config())` and `build()`. It is trained in place; with
            `lora_rank` its matrices stay in it.
        options: How to train it.
        batches: The training batches, inputs as the model takes them.
        validation: Batches for the validation loss, or None.
        state: What `open_state` returned; the weights of the last epochs are kept beside its file.
            `remove_checkpoints` that folder when the result is saved.
        callbacks: Further Keras callbacks.

    Returns:
        A copy of the model with the weights averaged over the last epochs; with `patience` set,
        over those up to the one with the best validation perplexity. With `validation`, that
        epoch's own weights where their perplexity is lower than the average's.

    Raises:
        InputError: `patience` is set without `validation`, `freeze` or `lora_layers` name what the
            model does not have, the state is of another model or training or has more epochs, more
            batches are accumulated than there are, or the loss becomes NaN.
    """
    if validation is None and options.patience is not None:
        raise InputError("patience needs validation text to watch; got none.")
    base = digest_arrays(map(whole_value, model.weights)) if options.lora_rank else None
    adapt(model, options)
    chosen = plan_training(model, options, batches)
    options = dataclasses.replace(options, **dataclasses.asdict(chosen))
    record_chosen(state, dataclasses.asdict(chosen))
    training_model = compile_training_model(model, options, steps_per_epoch=batches.steps_per_epoch)
    patience = 0 if options.patience is None else max(options.patience, 1)
    keeper = LastCheckpoints(state.path.parent, keep=chosen.average_checkpoints + patience)
    _check_kept(keeper, model, state, chosen, patience, batches.steps_per_epoch)
    fit(
        training_model,
        batches,
        state,
        epochs=chosen.epochs,
        stop_when=lambda history: patience > 0 and epochs_after_best(history) >= patience,
        validation=validation,
        callbacks=[keeper, *callbacks],
    )
    last = len(state.history["loss"])
    if patience:
        last -= epochs_after_best(state.history)
    paths = agree(lambda: keeper.last(chosen.average_checkpoints, last))
    weights, scores = final_weights(
        training_model, model, paths, state.history, validation, callbacks, epoch=last
    )
    with in_own_memory():
        final = copy_model(model, options)
        final.set_weights(weights)
        trained, adapter = split_adapter(final, options, base)
    return FitResult(trained, state.history | scores, options, adapter)


def _check_kept(
    keeper: LastCheckpoints,
    model: keras.Model,
    state: TrainingState,
    chosen: Fit,
    patience: int,
    steps_per_epoch: int,
) -> None:
    """Checks that a resumed training is not past its end, and has the weights to average there.

    Raises:
        InputError: It is past its end, or its state or a file of weights is not whole.
    """
    epoch, end = len(state.history.get("loss", [])), chosen.epochs
    if epoch != state.update // steps_per_epoch:
        raise InputError(
            f"{state.path} is not the whole state of a training: it has {state.update} updates of "
            f"{steps_per_epoch} an epoch, and the metrics of {epoch} epochs."
        )
    if epoch > end:
        raise InputError(f"epochs must be at least the {epoch} that are done; got {end}.")
    if patience and epoch:
        end = epoch - epochs_after_best(state.history)
    agree(lambda: keeper.check(model, chosen.average_checkpoints, epoch=epoch, end=max(end, 1)))
