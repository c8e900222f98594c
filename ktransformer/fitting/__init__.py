"""Training: the loop, its start and its state, from batches of ids or from parallel text to a run.

On JAX `train` makes the batches in another process, on TensorFlow; `fit_model`, which trains on
batches of ids, needs no TensorFlow.
"""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names
from ktransformer.runtime import supported_backend as supported_backend

if TYPE_CHECKING:
    from ktransformer.fitting.averaging import LastCheckpoints, average_checkpoints
    from ktransformer.fitting.bleu import BleuCallback
    from ktransformer.fitting.compiling import compile_model, compile_training_model, count_devices
    from ktransformer.fitting.folder import (
        LockedFolder,
        check_removable,
        check_unused,
        lock_checkpoints,
        remove_checkpoints,
        remove_state,
    )
    from ktransformer.fitting.from_batches import FitResult, fit_model, open_state
    from ktransformer.fitting.loop import Batches, StopAtNaN, fit
    from ktransformer.fitting.processes import data_parallel, join_processes
    from ktransformer.fitting.replicas import mirrored_strategy
    from ktransformer.fitting.sharding import ShardedDataParallel, TensorParallel
    from ktransformer.fitting.start import Fresh, FromRun, Resume
    from ktransformer.fitting.state import TrainingState
    from ktransformer.fitting.training import train
    from ktransformer.fitting.training_model import TrainingModel

__all__ = [
    "Batches",
    "BleuCallback",
    "FitResult",
    "Fresh",
    "FromRun",
    "LastCheckpoints",
    "LockedFolder",
    "Resume",
    "ShardedDataParallel",
    "StopAtNaN",
    "TensorParallel",
    "TrainingModel",
    "TrainingState",
    "average_checkpoints",
    "check_removable",
    "check_unused",
    "compile_model",
    "compile_training_model",
    "count_devices",
    "data_parallel",
    "fit",
    "fit_model",
    "join_processes",
    "lock_checkpoints",
    "mirrored_strategy",
    "open_state",
    "remove_checkpoints",
    "remove_state",
    "train",
]

if not TYPE_CHECKING:  # A type checker would take it to have any name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "LastCheckpoints": "averaging",
            "average_checkpoints": "averaging",
            "BleuCallback": "bleu",
            "compile_model": "compiling",
            "compile_training_model": "compiling",
            "count_devices": "compiling",
            "LockedFolder": "folder",
            "check_removable": "folder",
            "check_unused": "folder",
            "lock_checkpoints": "folder",
            "remove_checkpoints": "folder",
            "remove_state": "folder",
            "FitResult": "from_batches",
            "fit_model": "from_batches",
            "open_state": "from_batches",
            "Batches": "loop",
            "StopAtNaN": "loop",
            "fit": "loop",
            "data_parallel": "processes",
            "join_processes": "processes",
            "mirrored_strategy": "replicas",
            "ShardedDataParallel": "sharding",
            "TensorParallel": "sharding",
            "Fresh": "start",
            "FromRun": "start",
            "Resume": "start",
            "TrainingState": "state",
            "train": "training",
            "TrainingModel": "training_model",
        },
    )
