"""Trainings of a few updates, ways to cut them, and a look at the state they leave."""

import json
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

from ktransformer.config import Config
from ktransformer.saving.array_file import read_arrays
from ktransformer.text import ParallelText


def small(**settings) -> Config:
    sizes = {"num_layers": 1, "d_model": 16, "hidden_dim": 16, "num_heads": 2, "max_length": 16}
    short = {"epochs": 1, "batch_tokens": 64, "bleu_sentences": 0}
    adam = {"optimizer": "adam", "learning_rate": 2e-3, "warmup_steps": 1, "average_checkpoints": 5}
    return Config().replace({**sizes, "vocabulary_size": 30, **short, **adam, **settings})


TEXT = ParallelText(["one two", "two", "two one"] * 8, ["1 2", "2", "2 1"] * 8, empty=0)
STEPS = 3  # Updates an epoch of TEXT with 64 tokens a batch.
EVERY_UPDATE = {"checkpoint_minutes": 0, "dropout": 0.2, "attention_dropout": 0.1, "epochs": 5}


class CutError(Exception):
    """Stands in for a kill."""


class After(keras.callbacks.Callback):
    """Does something after so many updates, before the state of the last of them is written."""

    def __init__(self, updates: int) -> None:
        super().__init__()
        self.updates = updates

    def on_train_batch_end(self, batch, logs=None):
        self.updates -= 1
        if not self.updates:
            self.act()


class CutAfter(After):
    """Ends the training; with 0 updates, at the end of the epoch, when it has been evaluated."""

    def act(self):
        raise CutError

    def on_epoch_end(self, epoch, logs=None):
        if self.updates < 0:
            raise CutError


class SpoilAfter(After):
    """Puts NaN into the weights."""

    def act(self):
        weight = self.model.trainable_variables[-1]
        weight.assign(np.full(weight.shape, np.nan))


def state_of(folder: Path) -> list[np.ndarray]:
    """All of a training's state but its time: position and history first, then every variable."""
    head, *variables = read_arrays(folder / "training.npz", "a state")
    fields = json.loads(head.tobytes())
    assert fields.pop("seconds") > 0
    return [np.frombuffer(json.dumps(fields).encode(), np.uint8), *variables]


def assert_same(first, second) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()


def start(arguments: list[str], state: Path) -> subprocess.Popen:
    """Starts a training and waits until it has written its state."""
    written = _written(state)
    line = [sys.executable, "-m", "ktransformer", *arguments]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    while process.poll() is None and _written(state) == written:
        time.sleep(0.01)
    return process


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None
