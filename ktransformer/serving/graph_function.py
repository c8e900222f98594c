"""Functions that TensorFlow traces into graphs as they are written."""

import functools

import tensorflow as tf

# AutoGraph would first rewrite every function on the way, Keras' and a subclass's included, which
# takes longer than tracing some of them. All loops here are TensorFlow's own, and Keras trains and
# exports without it, too.
graph_function = functools.partial(tf.function, autograph=False)
