"""A Keras model whose attention is `keras.layers.MultiHeadAttention`, fitted by `model.fit`."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from training.benchmark import keras_fitting
from training.benchmark.training_workload import PAD_ID, Batch, TrainingWorkload


class Attention(layers.Layer):
    """Attention with dropout, the residual and the norm."""

    def __init__(self, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.dropout, self.norm = layers.Dropout(dropout), layers.LayerNormalization(epsilon=1e-5)

    def call(
        self,
        inputs: Any,
        value: Any,
        attention_mask: Any = None,
        causal: bool = False,
        training: bool | None = None,
    ) -> Any:
        outputs = self.attention(
            inputs,
            value,
            attention_mask=attention_mask,
            use_causal_mask=causal,
            training=training,
        )
        return self.norm(inputs + self.dropout(outputs, training=training))


class FeedForward(layers.Layer):
    """Two dense layers with dropout, the residual and the norm."""

    def __init__(self, hidden_dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden, self.output_ = layers.Dense(hidden_dim, "relu"), layers.Dense(width)
        self.dropout, self.norm = layers.Dropout(dropout), layers.LayerNormalization(epsilon=1e-5)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = self.output_(self.hidden(inputs))
        return self.norm(inputs + self.dropout(outputs, training=training))


class EncoderDecoder(keras.Model):
    """The Transformer of the same sizes: post-norm, one table of embeddings, sinusoids."""

    def __init__(self, work: TrainingWorkload) -> None:
        super().__init__()
        sizes = work.sizes
        self.width = width = sizes["d_model"]
        heads, count = sizes["num_heads"], sizes["num_layers"]

        def attention() -> Attention:
            return Attention(heads, width, work.dropout)

        def feed_forward() -> FeedForward:
            return FeedForward(sizes["hidden_dim"], width, work.dropout)

        self.encoder = [(attention(), feed_forward()) for _ in range(count)]
        self.decoder = [(attention(), attention(), feed_forward()) for _ in range(count)]
        self.table = self.add_weight(
            shape=(sizes["vocabulary_size"], width),
            initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
            name="table",
        )
        self.dropout = layers.Dropout(work.dropout)
        angles = np.outer(
            np.arange(sizes["max_length"]), 10000.0 ** (-np.arange(0, width, 2) / width)
        )
        self.positions = np.concatenate([np.sin(angles), np.cos(angles)], 1).astype("float32")

    def embed(self, ids: Any, training: bool | None) -> Any:
        """Returns vectors with positions, `[B, T, D]`."""
        vectors = ops.take(self.table, ids, axis=0) * self.width**0.5
        positions = ops.convert_to_tensor(self.positions)[: ops.shape(ids)[1]]
        return self.dropout(vectors + positions, training=training)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        source, target = inputs
        seen = ops.not_equal(source, PAD_ID)[:, None, :]  # [B, 1, S]
        memory = self.embed(source, training)
        for attention, feed_forward in self.encoder:
            memory = attention(memory, memory, attention_mask=seen, training=training)
            memory = feed_forward(memory, training=training)
        hidden = self.embed(target, training)
        for self_attention, cross_attention, feed_forward in self.decoder:
            hidden = self_attention(hidden, hidden, causal=True, training=training)
            hidden = cross_attention(hidden, memory, attention_mask=seen, training=training)
            hidden = feed_forward(hidden, training=training)
        return ops.matmul(hidden, ops.transpose(self.table))


class Engine(keras_fitting.KerasEngine):
    """Fits the model with Adam.

    Args:
        work: What is trained.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(self, work: TrainingWorkload, *, jit_compile: bool) -> None:
        keras.utils.set_random_seed(1)
        model = EncoderDecoder(work)
        ids = np.ones((1, 4), "int32")
        model((ids, ids))
        smoothing = work.label_smoothing

        def loss(labels: Any, logits: Any) -> Any:
            labels = ops.cast(labels, "int32")
            each = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            if smoothing:
                uniform = -ops.mean(ops.log_softmax(logits), axis=-1)
                each = (1 - smoothing) * each + smoothing * uniform
            real = ops.cast(labels != PAD_ID, each.dtype)
            return ops.sum(each * real) / ops.sum(real)

        adam = keras.optimizers.Adam(1e-4, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
        model.compile(adam, loss, jit_compile=jit_compile)
        super().__init__(model)

    def dataset(self, batches: Sequence[Batch]) -> tf.data.Dataset:
        """Returns the batches as the model takes them."""

        def pairs():
            for source, target, labels in batches:
                yield (source, target), labels

        ids = tf.TensorSpec((None, None), tf.int32)
        return tf.data.Dataset.from_generator(pairs, output_signature=((ids, ids), ids))
