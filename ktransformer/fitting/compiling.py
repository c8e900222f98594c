"""How a Transformer is compiled: loss, optimizer, schedule and metrics of a configuration."""

import keras

from ktransformer.config import TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import Fit, choose_fit, count_updates
from ktransformer.fitting.training_model import TrainingModel
from ktransformer.losses import RDrop, SmoothedCrossEntropy
from ktransformer.metrics import Perplexity, TokenAccuracy
from ktransformer.models import Transformer
from ktransformer.schedules import InverseSquareRoot


def compile_model(
    model: Transformer, config: TrainingConfig, *, steps_per_epoch: int | None = None
) -> None:
    """Compiles a model with the loss, optimizer, schedule and metrics of a configuration.

    Under a `tf.distribute` strategy, loss and gradient are those of the whole batch.

    Args:
        model: What to compile.
        config: How to train it.
        steps_per_epoch: Batches of an epoch; a schedule that ends with the training needs it, and
            settings that are null are chosen by it, see `fitting.defaults`.

    Raises:
        InputError: Several devices share a batch, and `config` has R-Drop or accumulates batches,
            or they are replicas of a strategy, and the model computes in float16 or the optimizer
            is Muon; or this is one of several workers; or more batches are accumulated than the
            training has.
        ValueError: The schedule needs `steps_per_epoch`.
    """
    several = count_devices() > 1
    if several and (config.rdrop_alpha or config.accumulate_batches > 1):
        raise InputError("rdrop_alpha and accumulate_batches train on one device alone.")
    loss, adam = SmoothedCrossEntropy, keras.optimizers.Adam
    if several and keras.backend.backend() == "tensorflow":
        from ktransformer.fitting import replicas

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
    model: Transformer, config: TrainingConfig, *, steps_per_epoch: int | None = None
) -> keras.Model:
    """Compiles what does the same to the model's weights, with less memory and time if it can.

    It is the model itself where several devices share a batch, where R-Drop needs its logits, and
    where a subclass makes logits in a way of its own; else a `TrainingModel`.

    Args:
        model: What to train.
        config: How to train it.
        steps_per_epoch: As `compile_model`.

    Returns:
        What to `fit`; the model is ready for use after it.

    Raises:
        InputError: As `compile_model`.
        ValueError: As `compile_model`.
    """
    if count_devices() > 1 or config.rdrop_alpha or not model.has_plain_logits():
        compile_model(model, config, steps_per_epoch=steps_per_epoch)
        return model
    training_model = TrainingModel(model, label_smoothing=config.label_smoothing)
    training_model.compile(optimizer=_make_optimizer(config, model.d_model, steps_per_epoch))
    return training_model


def can_use_muon() -> bool:
    """Tells whether Muon runs on the devices that share a batch."""
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
        count_updates(fit.epochs, steps_per_epoch, accumulated)  # There must be one.
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
    """Returns how many devices share a batch in the scope in which this is called.

    On TensorFlow these are the replicas of the `tf.distribute` strategy, on JAX the devices of the
    `keras.distribution`.

    Raises:
        InputError: The strategy is one of several workers.
    """
    if keras.backend.backend() == "tensorflow":
        from ktransformer.fitting import replicas

        return replicas.count_replicas()
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)
