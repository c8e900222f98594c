"""The numbered versions of a model in a folder, of which the highest is served."""

import re
from pathlib import Path
from typing import NamedTuple

from ktransformer.errors import InputError

_NUMBERED = re.compile(r"([0-9]{1,18})(\.tflite)?")


class Version(NamedTuple):
    """A version of a model: its number and where it lies; a model without numbers has version 1."""

    number: int
    path: Path


def find_versions(path: Path) -> list[Version]:
    """Returns the versions of a model, the highest first.

    A folder holds them as `1.tflite`, `2.tflite`, ..., or as folders `1`, `2`, ..., such as those
    of SavedModels. Anything else is a model itself.

    Raises:
        InputError: There is nothing at the path.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    if not path.is_dir():
        return [Version(1, path)]
    found = [
        Version(int(match[1]), each)
        for each in path.iterdir()
        if (match := _NUMBERED.fullmatch(each.name)) and each.is_dir() != bool(match[2])
    ]
    return sorted(found, reverse=True) or [Version(1, path)]


def latest_change(path: Path) -> tuple[int, int]:
    """Returns a value that changes when a file of a version grows, comes, or is written anew.

    The time of a folder itself does not tell that a file in it grows.

    Args:
        path: The file or folder of the version.

    Returns:
        The latest time of modification, in nanoseconds, and the bytes of all files.

    Raises:
        OSError: A file cannot be looked at, or went away meanwhile.
    """
    found = [each.stat() for each in (path, *path.rglob("*"))]
    return max(each.st_mtime_ns for each in found), sum(each.st_size for each in found)
