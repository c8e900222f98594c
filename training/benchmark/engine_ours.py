"""ktransformer: as the command `ktransformer train` fits it, and as `compile_model` does."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from export.benchmark.names import keep_freed_memory
from ktransformer.config import TrainingConfig
from ktransformer.fitting import compile_model, compile_training_model
from ktransformer.models import Transformer
from training.benchmark import keras_fitting
from training.benchmark.training_workload import Batch, TrainingWorkload


class Engine(keras_fitting.KerasEngine):
    """Fits our `Transformer` with our loss, Adam, schedule, accuracy and perplexity.

    Args:
        work: What is trained.
        whole_logits: Whether the loss gets the logits of all positions at once, as where a model
            is compiled with a loss from Python. The command's training does without them.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(self, work: TrainingWorkload, *, whole_logits: bool, jit_compile: bool) -> None:
        if not whole_logits:
            keep_freed_memory()
        keras.utils.set_random_seed(1)
        config = TrainingConfig(label_smoothing=work.label_smoothing)
        model: keras.Model = Transformer(**work.sizes, dropout=work.dropout)
        model.build()
        if whole_logits:
            compile_model(model, config)
        else:
            model = compile_training_model(model, config)
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
