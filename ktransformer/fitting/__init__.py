"""Training: `fit` with what surrounds it, from parallel text and a configuration to a run.

What trains from ids, `fit_transformer`, is imported without TensorFlow and runs on JAX as well.
"""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names
from ktransformer.runtime import supported_backend as supported_backend

if TYPE_CHECKING:
    from ktransformer.fitting.averaging import LastCheckpoints, average_checkpoints
    from ktransformer.fitting.bleu import BleuCallback
    from ktransformer.fitting.compiling import compile_model, compile_training_model, count_devices
    from ktransformer.fitting.encoded import FitResult, fit_transformer, open_state
    from ktransformer.fitting.folder import (
        check_removable,
        check_unused,
        lock_checkpoints,
        remove_checkpoints,
        remove_state,
    )
    from ktransformer.fitting.replicas import mirrored_strategy
    from ktransformer.fitting.resuming import StopAtNaN, TrainingState, fit
    from ktransformer.fitting.training import train, train_locked
    from ktransformer.fitting.training_model import TrainingModel

__all__ = [
    "BleuCallback",
    "FitResult",
    "LastCheckpoints",
    "StopAtNaN",
    "TrainingModel",
    "TrainingState",
    "average_checkpoints",
    "check_removable",
    "check_unused",
    "compile_model",
    "compile_training_model",
    "count_devices",
    "fit",
    "fit_transformer",
    "lock_checkpoints",
    "mirrored_strategy",
    "open_state",
    "remove_checkpoints",
    "remove_state",
    "train",
    "train_locked",
]

__getattr__ = lazy_names(
    __name__,
    {
        "LastCheckpoints": "averaging",
        "average_checkpoints": "averaging",
        "check_removable": "folder",
        "check_unused": "folder",
        "lock_checkpoints": "folder",
        "remove_checkpoints": "folder",
        "remove_state": "folder",
        "BleuCallback": "bleu",
        "compile_model": "compiling",
        "compile_training_model": "compiling",
        "count_devices": "compiling",
        "FitResult": "encoded",
        "fit_transformer": "encoded",
        "open_state": "encoded",
        "mirrored_strategy": "replicas",
        "StopAtNaN": "resuming",
        "TrainingState": "resuming",
        "fit": "resuming",
        "train": "training",
        "train_locked": "training",
        "TrainingModel": "training_model",
    },
)
