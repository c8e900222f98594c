"""Training: `fit` with what surrounds it, from parallel text and a configuration to a run."""

from ktransformer.fitting.averaging import (
    LastCheckpoints,
    average_checkpoints,
    remove_checkpoints,
)
from ktransformer.fitting.bleu import BleuCallback
from ktransformer.fitting.resuming import StopAtNaN, TrainingState, fit
from ktransformer.fitting.training import compile_model, compile_training_model, train
from ktransformer.fitting.training_model import TrainingModel

__all__ = [
    "BleuCallback",
    "LastCheckpoints",
    "StopAtNaN",
    "TrainingModel",
    "TrainingState",
    "average_checkpoints",
    "compile_model",
    "compile_training_model",
    "fit",
    "remove_checkpoints",
    "train",
]
