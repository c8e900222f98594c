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
