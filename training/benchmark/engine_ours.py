"""ktransformer, compiled and fitted as the command `ktransformer train` does."""

from collections.abc import Sequence

import keras
import keras_fitting
import tensorflow as tf
from training_workload import Batch, TrainingWorkload

from ktransformer.config import TrainingConfig
from ktransformer.fitting import compile_model
from ktransformer.models import Transformer


class Engine(keras_fitting.KerasEngine):
    """Fits our `Transformer` with our loss, Adam, schedule, accuracy and perplexity.

    Args:
        work: What is trained.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(self, work: TrainingWorkload, *, jit_compile: bool) -> None:
        keras.utils.set_random_seed(1)
        model = Transformer(**work.sizes, dropout=work.dropout)
        model.build()
        compile_model(model, TrainingConfig(label_smoothing=work.label_smoothing))
        model.jit_compile = jit_compile
        super().__init__(model)

    def dataset(self, batches: Sequence[Batch]) -> tf.data.Dataset:
        """Returns the batches as `TokenBatches.dataset` gives them."""

        def pairs():
            for source, target, labels in batches:
                yield {"source": source, "target": target}, labels

        ids = tf.TensorSpec((None, None), tf.int32)
        signature = ({"source": ids, "target": ids}, ids)
        return tf.data.Dataset.from_generator(pairs, output_signature=signature)
