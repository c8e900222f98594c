"""The environment of a training: versions, threads and machine, which change rounding."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer._version import __version__
from ktransformer.runtime.threads import available_cores


def describe_environment() -> dict[str, Any]:
    """Returns versions, threads and machine, JSON-serialisable.

    The threads are TensorFlow's; 0 means one for each core.
    """
    backend = keras.backend.backend()
    found: dict[str, Any] = {
        "ktransformer": __version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "backend": backend,
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": available_cores(),
    }
    if backend == "tensorflow":
        import tensorflow as tf

        threading = tf.config.threading
        found["tensorflow"] = tf.__version__
        found["intra_op_threads"] = threading.get_intra_op_parallelism_threads()
        found["inter_op_threads"] = threading.get_inter_op_parallelism_threads()
    elif backend == "jax":
        found["jax"] = importlib.metadata.version("jax")
    return found


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns the differences of two environments, such as `cores=2 before, 4 now`.

    Names that only one of them has are ignored.
    """
    return [
        f"{name}={before[name]} before, {now[name]} now"
        for name in now
        if name in before and before[name] != now[name]
    ]


def _processor() -> str:
    """Returns the processor's name, or an empty string if it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
