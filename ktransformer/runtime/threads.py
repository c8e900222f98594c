"""Limits the threads of TensorFlow."""

import tensorflow as tf


def set_threads(threads: int | None) -> None:
    """Limits TensorFlow's threads; None changes nothing.

    Raises:
        RuntimeError: TensorFlow has run an operation: it is too late.
    """
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
