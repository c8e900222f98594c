"""A batch that is spread over the replicas of a `tf.distribute` strategy.

Each replica has some of the rows, and of these some real tokens: not as many as the others. The
loss of the batch is a mean over its tokens, so no replica can compute its part alone.
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

    These are the first GPUs, or, where TensorFlow sees none, equal parts of the CPU, which show
    that it works and are not faster.

    Args:
        devices: How many, at least 2; of a CPU at most as many as it has cores, or 2.

    Raises:
        InputError: There are not so many, or TensorFlow has already divided the CPU otherwise.
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
    """Returns the number of replicas of the strategy in whose scope this is called; 1 for none.

    Raises:
        InputError: The strategy is one of several workers, which Keras 3 cannot `fit` under.
    """
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise InputError(
            "Keras 3 does not train under MultiWorkerMirroredStrategy; train on JAX in several "
            "processes, or under MirroredStrategy on the devices of one."
        )
    return int(strategy.num_replicas_in_sync)


def check_dtype(model: keras.Model) -> None:
    """Checks that a model's precision works on several replicas.

    Raises:
        InputError: It computes in float16. Keras' loss scaling looks for an overflow in the
            gradients of one replica alone.
    """
    if model.dtype_policy.compute_dtype == "float16":
        raise InputError("mixed_float16 trains on one device alone; use mixed_bfloat16.")


class ReplicaCrossEntropy(SmoothedCrossEntropy):
    """A replica's part of the batch's loss: its own sum over the tokens of all replicas.

    The parts of all replicas add up to the loss of the batch, and their gradients, which Keras
    adds up, to its gradient.
    """

    def total_weight(self, weights: Any) -> Any:
        """Returns the number of real tokens in the batch of all replicas."""
        own = super().total_weight(weights)
        replica = tf.distribute.get_replica_context()
        if replica is None:  # Keras looks at shapes outside of the replicas.
            return own
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)


class ReplicaAdam(keras.optimizers.Adam):
    """Adam that limits the norm of the gradient of the whole batch.

    Keras limits each replica's gradient before it adds them up. Here they are added up first, and
    again afterwards by Keras; without a limit once is enough.
    """

    def __init__(self, *args: Any, global_clipnorm: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch_clipnorm = global_clipnorm

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Updates the variables; in each replica, with its part of the gradients."""
        if self.batch_clipnorm is not None:
            replica = tf.distribute.get_replica_context()
            whole = replica.all_reduce(
                tf.distribute.ReduceOp.SUM, [tf.convert_to_tensor(grad) for grad in grads]
            )
            clipped, _ = tf.clip_by_global_norm(whole, self.batch_clipnorm)
            grads = [grad / replica.num_replicas_in_sync for grad in clipped]
        super().apply(grads, trainable_variables)
