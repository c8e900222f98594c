"""Training on the replicas of a `tf.distribute` strategy, which share the rows of every batch.

The loss is a mean over the real tokens of the whole batch. Each replica has some of the rows, with
another number of real tokens, so the replicas exchange their counts.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.losses import SmoothedCrossEntropy


def mirrored_strategy(devices: int) -> tf.distribute.Strategy:
    """Creates a strategy with a replica on each of several devices.

    The devices are the first GPUs. Without a GPU they are equal parts of the CPU, for a trial: that
    is not faster.

    Args:
        devices: Number of devices, at least 2; on a CPU at most the number of its cores, or 2.

    Raises:
        InputError: There are fewer devices, or TensorFlow already uses the CPU as fewer.
    """
    if devices < 2:
        raise InputError(f"devices must be at least 2; got {devices}.")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if len(gpus) < devices:
            raise InputError(f"There are not {devices} devices: TensorFlow sees {len(gpus)} GPUs.")
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(devices)])
    most = max(os.cpu_count() or 1, 2)
    if devices > most:
        raise InputError(
            f"There are not {devices} devices: TensorFlow sees no GPU, and divides this CPU into "
            f"{most} at most, for a trial."
        )
    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < devices:
            raise InputError(
                f"The CPU cannot be divided into {devices} devices: TensorFlow runs already."
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])


def count_replicas() -> int:
    """Returns the number of replicas of the current strategy; 1 without a strategy.

    Raises:
        InputError: The strategy has several workers, with which Keras 3 cannot `fit`.
    """
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise InputError(
            "Keras 3 does not train under MultiWorkerMirroredStrategy; train on JAX in several "
            "processes, or under MirroredStrategy on the devices of one."
        )
    return int(strategy.num_replicas_in_sync)


def check_dtype(model: keras.Model) -> None:
    """Checks that a model does not compute in float16, which several replicas cannot train.

    Keras' loss scaling checks the gradients of one replica alone for an overflow.

    Raises:
        InputError: The model computes in float16.
    """
    if model.dtype_policy.compute_dtype == "float16":
        raise InputError("mixed_float16 trains on one device alone; use mixed_bfloat16.")


class ReplicaCrossEntropy(SmoothedCrossEntropy):
    """A replica's share of the batch's loss: its summed loss by the tokens of all replicas.

    The shares of all replicas add up to the loss of the batch, and their gradients to its gradient.
    """

    def total_weight(self, weights: Any) -> Any:
        """Returns the number of real tokens in the whole batch, on all replicas."""
        own = super().total_weight(weights)
        replica = tf.distribute.get_replica_context()
        if replica is None:  # Keras infers shapes outside of the replicas.
            return own
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)


class ReplicaAdam(keras.optimizers.Adam):
    """Adam that clips the gradient of the whole batch by its norm.

    Keras clips each replica's gradient before it sums them. This class sums them first, clips the
    sum and gives each replica an equal share, which Keras sums again.
    """

    def __init__(self, *args: Any, global_clipnorm: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch_clipnorm = global_clipnorm

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Updates the variables, with the share of the gradients of this replica."""
        if self.batch_clipnorm is not None:
            replica = tf.distribute.get_replica_context()
            whole = replica.all_reduce(
                tf.distribute.ReduceOp.SUM, [tf.convert_to_tensor(grad) for grad in grads]
            )
            clipped, _ = tf.clip_by_global_norm(whole, self.batch_clipnorm)
            grads = [grad / replica.num_replicas_in_sync for grad in clipped]
        super().apply(grads, trainable_variables)
