"""Datasets without tf.data's tuner."""

import tensorflow as tf


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a dataset whose settings tf.data does not tune while it runs.

    What ends an iterator, as Keras does after each evaluation, waits for its tuner to wake up, and
    in a long training the tuner sleeps for up to a minute (TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
