"""How a Transformer is compiled: loss, optimizer, schedule and metrics of a configuration."""

import keras

from ktransformer.config import TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting.training_model import TrainingModel
from ktransformer.losses import RDrop, SmoothedCrossEntropy
from ktransformer.metrics import Perplexity, TokenAccuracy
from ktransformer.models import Transformer
from ktransformer.schedules import InverseSquareRoot


def compile_model(model: Transformer, config: TrainingConfig) -> None:
    """Compiles a model with the loss, optimizer, schedule and metrics of a configuration.

    Under a `tf.distribute` strategy, loss and gradient are those of the whole batch.

    Raises:
        InputError: Several devices share a batch, and `config` has R-Drop or accumulates batches,
            or they are replicas of a strategy, and the model computes in float16; or this is one
            of several workers.
    """
    several = count_devices() > 1
    if several and (config.rdrop_alpha or config.accumulate_batches > 1):
        raise InputError("rdrop_alpha and accumulate_batches train on one device alone.")
    loss, adam = SmoothedCrossEntropy, keras.optimizers.Adam
    if several and keras.backend.backend() == "tensorflow":
        from ktransformer.fitting import replicas

        replicas.check_dtype(model)
        loss, adam = replicas.ReplicaCrossEntropy, replicas.ReplicaAdam
    model.compile(
        optimizer=_make_optimizer(config, adam),
        loss=(
            RDrop(config.label_smoothing, alpha=config.rdrop_alpha)
            if config.rdrop_alpha
            else loss(config.label_smoothing)
        ),
        metrics=[TokenAccuracy(), Perplexity()],
    )


def compile_training_model(model: Transformer, config: TrainingConfig) -> keras.Model:
    """Compiles what does the same to the model's weights, with less memory and time if it can.

    It is the model itself where several devices share a batch, where R-Drop needs its logits, and
    where a subclass has a `call` of its own; else a `TrainingModel`.

    Returns:
        What to `fit`; the model is ready for use after it.

    Raises:
        InputError: As `compile_model`.
    """
    if count_devices() > 1 or config.rdrop_alpha or type(model).call is not Transformer.call:
        compile_model(model, config)
        return model
    training_model = TrainingModel(model, label_smoothing=config.label_smoothing)
    training_model.compile(optimizer=_make_optimizer(config))
    return training_model


def _make_optimizer(
    config: TrainingConfig, adam: type[keras.optimizers.Adam] = keras.optimizers.Adam
) -> keras.optimizers.Optimizer:
    accumulated = config.accumulate_batches
    return adam(
        InverseSquareRoot(config.learning_rate, config.warmup_steps),
        beta_1=0.9,
        beta_2=0.98,
        epsilon=1e-9,
        global_clipnorm=config.clip_norm,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
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
