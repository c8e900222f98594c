"""Files of NumPy arrays in order: the state of a training, the weights after an epoch."""

import re
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.files import new_file

_MEMBER = re.compile(r"arr_\d+\.npy")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, RecursionError),
    *(NotImplementedError, OverflowError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
    RuntimeError,  # Of an encrypted archive.
)


def write_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Writes arrays to a file atomically."""
    with new_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays)


def read_arrays(path: Path, what: str) -> list[np.ndarray]:
    """Reads a file of `write_arrays`; a crafted file takes no more memory than its own size.

    Args:
        path: The file.
        what: Its content, for the error message.

    Raises:
        InputError: The file is missing, damaged or something else.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if not members or not _are_ours(members, path.stat().st_size):
                raise ValueError("other members")
            arrays = []
            for member in members:
                with archive.open(member) as content:
                    arrays.append(_read_array(content, member.file_size))
            return arrays
    except _UNREADABLE as error:
        raise InputError(
            f"{path} is not {what}: it is missing, damaged or something else."
        ) from error


def check_arrays(path: Path, variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    """Checks that the arrays of a file fit a model's variables.

    Raises:
        InputError: Their number, a shape or a type differs, or a value is infinite or NaN.
    """
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise InputError(f"{path} is of another model: its arrays have other shapes.")
    for variable, array in zip(variables, arrays, strict=True):
        kind = np.dtype(keras.backend.standardize_dtype(variable.dtype))
        if array.dtype != kind and not np.can_cast(array.dtype, kind, "same_kind"):
            raise InputError(f"{path} is of another model: it holds {array.dtype} for {kind}.")
        if not np.isfinite(array).all():
            raise InputError(f"{path} holds values that are infinite or NaN.")


def is_array_file(path: Path) -> bool:
    """Returns whether a file is empty or looks like one of `write_arrays`."""
    if path.is_symlink() or not path.is_file():
        return False
    size = path.stat().st_size
    if size == 0:
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return _are_ours(archive.infolist(), size)
    except _UNREADABLE:
        return False


def _are_ours(members: list[zipfile.ZipInfo], size: int) -> bool:
    """Returns whether an archive has the members of `np.savez`, which does not compress."""
    return sum(member.file_size for member in members) <= size and all(
        _MEMBER.fullmatch(member.filename) and member.compress_type == zipfile.ZIP_STORED
        for member in members
    )


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    """Reads an array whose size is the one in its header."""
    shape, fortran_order, kind = _HEADERS[np.lib.format.read_magic(file)](file)
    if kind.hasobject or file.tell() + int(np.prod(shape, dtype=object)) * kind.itemsize != size:
        raise ValueError("another size")
    array = np.frombuffer(file.read(), kind).reshape(shape, order="F" if fortran_order else "C")
    return np.array(array)
