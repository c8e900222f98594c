"""Reads the JSON files of a published model."""

import json
from pathlib import Path
from typing import Any

from ktransformer.errors import InputError, first_line

_MOST_BYTES = 256 * 2**20  # Vocabularies and indices are the largest.


def read_json_file(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: It is no JSON, or a very large file.
    """
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise InputError(f"{path} must have at most {_MOST_BYTES} bytes; got {size}.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it is no JSON ({first_line(error)}).") from error
