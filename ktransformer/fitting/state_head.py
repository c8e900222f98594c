"""The head of a training's state: progress, history and fingerprint, as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.errors import InputError

FORMAT_VERSION = 1


def read_head(array: np.ndarray, arrays: int, path: Path) -> dict[str, Any]:
    """Reads the head of a state.

    Args:
        array: The bytes of the JSON.
        arrays: Number of arrays that follow it.
        path: The file, for errors.

    Returns:
        `about` (the fingerprint), `update`, `history` and `variables`, checked, and `environment`,
        which older states lack.

    Raises:
        InputError: The head is damaged, or of a newer version.
    """
    try:
        head = json.loads(array.tobytes())
    except (ValueError, RecursionError):
        head = None
    damaged = InputError(f"{path} is not the whole state of a training.")
    if not isinstance(head, dict) or not _is_number(head.get("format_version")):
        raise damaged
    if head["format_version"] > FORMAT_VERSION:
        raise InputError(f"{path} is of a newer ktransformer: upgrade it to go on.")
    if not (
        isinstance(head.get("about"), dict)
        and isinstance(head.get("environment", {}), dict)
        and _is_number(head.get("update"))
        and _is_number(head.get("variables"))
        and head["variables"] <= arrays
        and _is_history(head.get("history"))
    ):
        raise damaged
    return head


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_history(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(values, list) and all(isinstance(v, (int, float)) for v in values)
        for values in value.values()
    )
