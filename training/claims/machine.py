"""Describes the machine and the versions of a measurement in words."""

import importlib.metadata
import os
import platform
from pathlib import Path

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def describe() -> str:
    """Returns cores, their model, and the versions of Python, TensorFlow and Keras."""
    cores = os.cpu_count() or 1
    number = _NUMBERS[cores] if cores < len(_NUMBERS) else str(cores)
    kind = platform.machine().replace("_", "-")
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name.lower())}" for name in ("TensorFlow", "Keras")
    )
    return (
        f"{number} {kind} core{'s' * (cores != 1)} ({_processor()}, no GPU is used), "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    """Returns the model name of the processor."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or "model unknown"
