"""Finds Keras' backend without importing Keras, whose import fails if the backend is missing."""

import json
import os
from pathlib import Path


def chosen_backend() -> str:
    """Returns the backend that `KERAS_BACKEND` or Keras' own keras.json names."""
    named = os.environ.get("KERAS_BACKEND")
    if named:
        return named
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        settings = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "tensorflow"
    return str(settings.get("backend", "tensorflow")) if isinstance(settings, dict) else ""


def backend_message(needs: str) -> str:
    """Returns the message that `needs` requires Keras on TensorFlow."""
    return (
        f"Keras is set to {chosen_backend()}, by KERAS_BACKEND or in its keras.json; "
        f"{needs} needs it on TensorFlow."
    )
