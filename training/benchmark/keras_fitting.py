"""What ours and the Keras peer have in common: `model.fit` on some batches, and a product."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from training.benchmark.training_workload import Batch


class KerasEngine:
    """Fits a compiled model with `model.fit`, as people do.

    Args:
        model: Compiled.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def dataset(self, batches: Sequence[Batch]) -> tf.data.Dataset:
        """Returns the batches as the model takes them."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Returns the versions of what trains the model."""
        return {"tensorflow": tf.__version__, "keras": keras.__version__}

    def fit(self, batches: Sequence[Batch]) -> float:
        """Fits the batches once; returns the mean of their losses."""
        options = tf.data.Options()
        options.autotune.enabled = False  # The end of a `fit` waits for the tuner, for seconds.
        data = self.dataset(batches).prefetch(2).with_options(options)
        history = self.model.fit(data, steps_per_epoch=len(batches), verbose=0, shuffle=False)
        return float(history.history["loss"][-1])

    def product(self, size: int) -> Callable[[], object]:
        """Returns a function that multiplies two square matrices."""
        left, right = (tf.random.normal((size, size)) for _ in range(2))
        multiply = tf.function(tf.matmul)
        return lambda: multiply(left, right).numpy()
