"""Compiles a model with the loss, optimizer, schedule and metrics of a configuration."""

import keras

from ktransformer.config import TrainingConfig
from ktransformer.config.alignment_heads import AlignmentHeads
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import Fit, choose_fit, count_updates
from ktransformer.fitting.guided_training_model import GuidedTrainingModel
from ktransformer.fitting.training_model import TrainingModel
from ktransformer.losses import RDrop, SmoothedCrossEntropy
from ktransformer.metrics import Perplexity, TokenAccuracy
from ktransformer.schedules import InverseSquareRoot


def compile_model(
    model: keras.Model, config: TrainingConfig, *, steps_per_epoch: int | None = None
) -> None:
    """Compiles a model with the loss, optimizer, schedule and metrics of a configuration.

    Under a `tf.distribute` strategy, loss and gradient are those of the whole batch.

    Args:
        model: Gives logits `[B, T, V]` for labels `[B, T]`; has `d_model` and `pad_id`.
        config: How to train it.
        steps_per_epoch: Batches of an epoch; null settings are chosen by it, see
            `fitting.defaults`, and a cosine schedule needs it.

    Raises:
        InputError: Several replicas of a strategy share a batch, and `config` has R-Drop or
            accumulates batches, the model computes in float16 or the optimizer is Muon; the
            strategy has several workers; or more batches are accumulated than the training has.
        ValueError: The schedule needs `steps_per_epoch`.
    """
    loss, adam = SmoothedCrossEntropy, keras.optimizers.Adam
    if count_devices() > 1 and keras.backend.backend() == "tensorflow":
        from ktransformer.fitting import replicas

        if config.rdrop_alpha or config.accumulate_batches > 1:
            raise InputError(
                "rdrop_alpha and accumulate_batches train on one TensorFlow device alone; use JAX."
            )
        replicas.check_dtype(model)
        if config.optimizer == "muon":  # Null is not: `can_use_muon`.
            raise InputError("muon trains on one TensorFlow device alone; use adam, or JAX.")
        loss, adam = replicas.ReplicaCrossEntropy, replicas.ReplicaAdam
    pad_id = model.pad_id
    model.compile(
        optimizer=_make_optimizer(config, model.d_model, steps_per_epoch, adam),
        loss=(
            RDrop(config.label_smoothing, alpha=config.rdrop_alpha, pad_id=pad_id)
            if config.rdrop_alpha
            else loss(config.label_smoothing, pad_id=pad_id)
        ),
        metrics=[TokenAccuracy(pad_id=pad_id), Perplexity(pad_id=pad_id)],
    )


def compile_training_model(
    model: keras.Model, config: TrainingConfig, *, steps_per_epoch: int | None = None
) -> keras.Model:
    """Compiles a `TrainingModel`, which saves memory and time, or the model itself if needed.

    The model itself is trained if several devices share a batch, if R-Drop needs the logits, or
    if `model.has_plain_logits()` is False. The weights get the same updates either way. With
    `guided_alignment` it is a `GuidedTrainingModel`.

    Args:
        model: As `compile_model`; also has `has_plain_logits`.
        config: How to train it.
        steps_per_epoch: As `compile_model`.

    Returns:
        The model to `fit`; it shares its weights with `model`.

    Raises:
        InputError: As `compile_model`, or `guided_alignment` is set and does not fit the model.
        ValueError: As `compile_model`.
    """
    needs_logits = count_devices() > 1 or config.rdrop_alpha or not model.has_plain_logits()
    training_model: TrainingModel
    if config.guided_alignment:
        heads = guided_heads(model, config)
        if needs_logits:
            raise InputError(
                "guided_alignment trains a model with plain logits, on one device and without "
                f"rdrop_alpha; got guided_alignment={config.guided_alignment}."
            )
        training_model = GuidedTrainingModel(
            model,
            layer=heads.layer,
            heads=heads.heads,
            alignment_weight=config.guided_alignment,
            label_smoothing=config.label_smoothing,
        )
    elif needs_logits:
        compile_model(model, config, steps_per_epoch=steps_per_epoch)
        return model
    else:
        training_model = TrainingModel(model, label_smoothing=config.label_smoothing)
    training_model.compile(optimizer=_make_optimizer(config, model.d_model, steps_per_epoch))
    return training_model


def guided_heads(model: keras.Model, options: TrainingConfig) -> AlignmentHeads:
    """Returns the heads that `guided_alignment` trains.

    Raises:
        InputError: `guided_layer` or `guided_heads` is more than the model has, or the model has no
            cross-attention.
    """
    if not hasattr(model, "hidden_states_and_attention"):
        raise InputError(
            "guided_alignment needs a Transformer with encoder and decoder; got "
            f"guided_alignment={options.guided_alignment} and a {type(model).__name__}."
        )
    return AlignmentHeads.choose(
        {"guided_layer": options.guided_layer, "guided_heads": options.guided_heads},
        num_layers=model.num_decoder_layers,
        num_heads=model.num_heads,
        shifted=True,
    )


def can_use_muon() -> bool:
    """Returns whether Muon runs on the devices that share a batch."""
    return keras.backend.backend() != "tensorflow" or count_devices() == 1


def _make_optimizer(
    config: TrainingConfig,
    d_model: int,
    steps_per_epoch: int | None,
    adam: type[keras.optimizers.Adam] = keras.optimizers.Adam,
) -> keras.optimizers.Optimizer:
    accumulated = config.accumulate_batches
    fit = choose_fit(
        config, steps_per_epoch=steps_per_epoch, d_model=d_model, can_use_muon=can_use_muon()
    )
    if steps_per_epoch is not None:
        count_updates(fit.epochs, steps_per_epoch, accumulated)  # Raises if there is none.
    common = {
        "learning_rate": _make_schedule(fit, accumulated, steps_per_epoch),
        "epsilon": 1e-9,
        "weight_decay": config.weight_decay or None,
        "global_clipnorm": config.clip_norm,
        "gradient_accumulation_steps": accumulated if accumulated > 1 else None,
    }
    optimizer: keras.optimizers.Optimizer
    if fit.optimizer == "muon":
        optimizer = keras.optimizers.Muon(
            adam_beta_1=0.9,
            adam_beta_2=0.98,
            adam_weight_decay=common["weight_decay"],
            exclude_layers=["output/"],  # As embeddings, which Keras excludes by itself.
            **common,
        )
    else:
        optimizer = adam(beta_1=0.9, beta_2=0.98, **common)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _make_schedule(
    fit: Fit, accumulate_batches: int, steps_per_epoch: int | None
) -> keras.optimizers.schedules.LearningRateSchedule:
    # Keras calls a schedule with the number of batches, however many make an update.
    warmup_batches = fit.warmup_steps * accumulate_batches
    if fit.schedule == "inverse_square_root":
        return InverseSquareRoot(fit.learning_rate, warmup_batches)
    if steps_per_epoch is None:
        raise ValueError(f"schedule={fit.schedule!r} needs steps_per_epoch; got None.")
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=fit.learning_rate,
        warmup_steps=warmup_batches,
        decay_steps=max(fit.epochs * steps_per_epoch - warmup_batches, 1),
    )


def count_devices() -> int:
    """Returns how many devices share a batch in the current scope.

    On TensorFlow these are the replicas of the `tf.distribute` strategy, on JAX the devices of the
    `keras.distribution`.

    Raises:
        InputError: The strategy has several workers.
    """
    if keras.backend.backend() == "tensorflow":
        from ktransformer.fitting import replicas

        return replicas.count_replicas()
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)
