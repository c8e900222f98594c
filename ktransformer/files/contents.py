"""Writes JSON, and measures files and folders."""

import json
import math
from pathlib import Path
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB")


def size_on_disk(path: str | Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    path = Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def readable_size(size: float) -> str:
    """Formats a number of bytes with the largest unit that keeps it at least 1."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} {_UNITS[-1]}"


def json_text(content: Any) -> str:
    """Formats dicts, lists and plain values as JSON; infinite and NaN numbers become null."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(content: Any) -> Any:
    """Replaces infinite and NaN numbers by None."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
