"""What TensorBoard shows of a training beyond Keras' curves; on TensorFlow."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ktransformer.drawing import can_draw, missing_sentence
from ktransformer.engines import draw_attention
from ktransformer.errors import first_line
from ktransformer.tasks import Translator

_log = logging.getLogger(__name__)
TEXTS = 10  # That are translated after each epoch.
_EVERY_UPDATES = 20
_DPI = 60  # Ten pictures an epoch.


class TrainingBoard(keras.callbacks.Callback):
    """Writes learning rate, gradient norm and speed, and translations with their attention.

    Every 20 updates: `learning_rate`, `gradient_norm` (the global norm before it is clipped),
    `tokens_per_second` (without padding) and `loss` (the epoch's mean so far). After each epoch:
    translations of some texts beside their references, and pictures of the cross-attention, which
    need Matplotlib. They stand in the folder `updates`, beside those of Keras' own callback.

    Args:
        folder: The folder of the logs.
        tokens: Mean tokens of a batch.
        translator: A translator of the model that is fitted; None for no translations.
        sources: The texts to translate.
        references: Their translations.
    """

    def __init__(
        self,
        folder: str,
        tokens: float,
        translator: Translator | None = None,
        sources: Sequence[str] = (),
        references: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._folder, self._tokens, self._translator = folder, tokens, translator
        self._texts = list(zip(sources, references, strict=True))
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the logs, and has the optimizer keep the norm of its gradients."""
        if self._writer is None:  # The rest of a cut epoch is a `fit` of its own.
            self._writer = tf.summary.create_file_writer(f"{self._folder}/updates")
            self._norm = keep_gradient_norm(self.model.optimizer)
            if self._texts and not can_draw():
                _log.info("%s", missing_sentence("A picture of the attention in TensorBoard"))
        self._seen, self._began = 0, time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leaves the time between two epochs out of the speed."""
        self._seen, self._began = 0, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the scalars, every so many updates."""
        self._seen += 1
        if self._seen < _EVERY_UPDATES:
            return
        seconds = max(time.monotonic() - self._began, 1e-9)
        optimizer = self.model.optimizer
        scalars = {
            "learning_rate": optimizer.learning_rate,
            "gradient_norm": self._norm,
            "tokens_per_second": self._seen * self._tokens / seconds,
            "loss": (logs or {}).get("loss", float("nan")),
        }
        with self._writer.as_default(int(optimizer.iterations)):
            for name, value in scalars.items():
                tf.summary.scalar(name, float(keras.ops.convert_to_numpy(value)))
        self._seen, self._began = 0, time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the translations and their attention."""
        if self._translator is None or not self._texts:
            return
        sources, references = zip(*self._texts, strict=True)
        found = self._translator.translate_texts(tf.constant(sources))["text"].numpy()
        rows = [
            f"| {' | '.join(map(_in_a_cell, (source, text.decode(), reference)))} |"
            for source, text, reference in zip(sources, found, references, strict=True)
        ]
        table = "\n".join(["| source | translation | reference |", "| --- | --- | --- |", *rows])
        with self._writer.as_default(epoch + 1):
            tf.summary.text("translations", table)
            if can_draw():
                for number, source in enumerate(sources, start=1):
                    try:
                        picture = draw_attention(self._translator, source, dpi=_DPI)
                    except Exception as error:  # Of Matplotlib: the training goes on.
                        _log.warning("The attention is not drawn: %s", first_line(error))
                        break
                    tf.summary.image(f"attention/{number:02}", tf.io.decode_png(picture)[None])
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes what is left."""
        self._writer.flush()


def keep_gradient_norm(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Makes an optimizer keep the global norm of the gradients that it is given.

    The updates stay the same. Call it before the first of them is traced.

    Returns:
        The norm of the last batch's gradients, over all variables, before clipping; of several
        replicas the mean. It is no variable of the optimizer, so that its state stays the same.
    """
    norm = keras.Variable(0.0, dtype="float32", trainable=False, aggregation="mean")
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # Of one that scales the loss.
    apply = optimizer.apply

    def measured(grads: Any, trainable_variables: Any = None) -> Any:
        dense = [tf.cast(tf.convert_to_tensor(g), tf.float32) for g in grads if g is not None]
        norm.assign(tf.linalg.global_norm(dense))
        return apply(grads, trainable_variables)

    optimizer.apply = measured
    return norm


def _in_a_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
