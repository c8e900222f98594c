"""A training from ids, of some updates of two shapes, on whatever backend Keras runs."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from ktransformer.config import Config
from ktransformer.fitting import count_devices, fit_model, open_state
from ktransformer.saving.run import make_model
from ktransformer.text import END_ID, TokenBatches

_SIZES = {"num_layers": 1, "d_model": 16, "hidden_dim": 16, "num_heads": 2, "max_length": 16}


class Losses(keras.callbacks.Callback):
    """Records the loss after every update, and cuts the training before the state is written."""

    def __init__(self, cut: int | None = None) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.cut = cut

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))
        if len(self.losses) == self.cut:
            raise InterruptedError


def fit_ids(
    folder: Path, callbacks: Sequence[keras.callbacks.Callback] = (), **settings
) -> dict[str, list[float]]:
    """Trains two epochs from weights that are the same on every backend; returns the history."""
    training = {"epochs": 2, "batch_tokens": 112, "checkpoint_minutes": 0, "bucket_step": 8}
    adam = {"optimizer": "adam", "learning_rate": 2e-3, "warmup_steps": 1, "average_checkpoints": 2}
    config = Config().replace({**_SIZES, **training, **adam, **settings})
    random = np.random.default_rng(0)
    ids = [np.array([*random.integers(4, 20, random.integers(3, 12)), END_ID]) for _ in range(56)]

    def batches(shuffle: bool) -> TokenBatches:
        return TokenBatches(
            ids,
            ids[::-1],
            batch_tokens=config.data.batch_tokens,
            max_length=16,
            bucket_step=config.data.bucket_step,
            shuffle=shuffle,
            copies=config.training.copies,
            row_multiple=count_devices(),
        )

    keras.utils.set_random_seed(1)
    model = make_model(config, 20)
    model.set_weights([random.normal(0, 0.1, weight.shape) for weight in model.weights])
    return fit_model(
        model,
        config.training,
        batches(shuffle=True),
        batches(shuffle=False),
        state=open_state(folder, config, {"ids": "these"}, resume=True),
        callbacks=callbacks,
    ).history
