"""Reads a PyTorch state dictionary without PyTorch, and without running what a pickle may hold."""

import collections
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

_DTYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_SIZE_BYTES = 8  # Before each storage of the old format: the number of its elements.
_MOST_PICKLE = 64 * 2**20  # Bytes; the pickle holds names and shapes alone.
_MOST_AXES = 16
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
"""The errors of a damaged pickle or archive: its unpickler trusts what it reads."""


class Storage(NamedTuple):
    """The numbers that one or several tensors share; they are still in the file."""

    key: str
    dtype: Any
    size: int

    @property
    def num_bytes(self) -> int:
        """The size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize


class PickledTensor(NamedTuple):
    """A view of a storage: `[i, j]` is its number `offset + i * strides[0] + j * strides[1]`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class PickledFile:
    """A file that `torch.save` wrote from a dictionary of tensors, in either of its two formats.

    The unpickler refuses every class and function but those that tensors are made of.

    Args:
        path: The file.

    Attributes:
        tensors: Each tensor, by name.

    Raises:
        ValueError: The file is damaged, holds something else, or would run other code. The message
            is a clause that follows the name of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._is_zip = file.read(2) == b"PK"
        read = _read_zip if self._is_zip else _read_legacy
        found, self._stored = _or_damage(lambda: read(path))
        if not isinstance(found, dict):
            raise ValueError(f"holds a {type(found).__name__}, not a dictionary of tensors")
        for name, tensor in found.items():
            if not isinstance(name, str) or not isinstance(tensor, PickledTensor):
                raise ValueError(f"holds {name!r}, which is no tensor")
            self._check(name, tensor)
        self.tensors: dict[str, PickledTensor] = dict(found)

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor, in its own type.

        Raises:
            ValueError: Its numbers are damaged; the message is a clause.
        """
        storage, offset, shape, strides = self.tensors[name]
        numbers = np.frombuffer(_or_damage(lambda: self._read_storage(storage)), storage.dtype)
        steps = [stride * numbers.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps).copy()

    def _read_storage(self, storage: Storage) -> bytes:
        place = self._stored[storage.key].place
        if isinstance(place, str):
            with zipfile.ZipFile(self._path) as archive:
                return archive.read(place)[: storage.num_bytes]
        with self._path.open("rb") as file:
            file.seek(place)
            return file.read(storage.num_bytes)

    def _check(self, name: str, tensor: PickledTensor) -> None:
        """Checks that a tensor lies within its numbers, and these within the file."""
        storage, offset, shape, strides = tensor
        if storage.key not in self._stored or self._stored[storage.key].num_bytes < (
            storage.num_bytes
        ):
            raise ValueError(f"is cut off: the numbers of {name!r} are missing")
        plain = all(type(each) is int and each >= 0 for each in (offset, *shape, *strides))
        if not plain or len(shape) != len(strides) or len(shape) > _MOST_AXES:
            raise ValueError(f"is damaged: {name!r} has no valid shape")
        size = math.prod(shape)
        last = sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True))
        if size > storage.size or (size and offset + last >= storage.size):
            raise ValueError(f"is damaged: {name!r} reaches over the end of its numbers")


class _Place(NamedTuple):
    """Where a storage lies: its name in a ZIP, or its first byte in a file of the old format."""

    place: str | int
    num_bytes: int


class _RefusedError(Exception):
    """The pickle asks for something that no tensor is made of; the message is a clause."""


def _or_damage(read: Callable[[], Any]) -> Any:
    """Returns what a function reads; a damaged file becomes a `ValueError`."""
    try:
        return read()
    except _RefusedError as error:
        raise ValueError(str(error)) from error
    except _DAMAGE as error:
        raise ValueError(f"is damaged, or no file of tensors ({type(error).__name__})") from error


def _rebuild_tensor(
    storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> PickledTensor:
    if not isinstance(storage, Storage):
        raise _RefusedError("holds a tensor without numbers")
    return PickledTensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Knows the parts of tensors alone; the numbers of a tensor stay in the file."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusedError(
                f"asks for {module}.{name}, which no tensor is made of; nothing of it was run"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, size, *views = pid
        known = kind == "storage" and dtype in _DTYPES.values() and isinstance(key, str)
        if not known or type(size) is not int or size < 0 or any(views):
            raise _RefusedError("holds numbers of an unknown kind")
        return Storage(key, dtype, size)


def _read_zip(path: Path) -> tuple[Any, dict[str, _Place]]:
    """Reads the format of PyTorch from 1.6 on: a ZIP of a pickle and of a file for each storage."""
    with zipfile.ZipFile(path) as archive:
        # All lies in one folder, whose name is the file's when it was written.
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise _RefusedError("is compressed, which no file of torch.save is")
        if any(info.header_offset < 0 for info in entries.values()):
            raise _RefusedError("is damaged: its directory names places before its start")
        if entries["data.pkl"].file_size > _MOST_PICKLE:
            raise _RefusedError("has a pickle that is too long to describe tensors alone")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise _RefusedError("has numbers of the other byte order")
        with archive.open(entries["data.pkl"]) as pickled:
            found = _Unpickler(pickled).load()
    prefix = "data/"
    places = {
        name.removeprefix(prefix): _Place(info.filename, info.file_size)
        for name, info in entries.items()
        if name.startswith(prefix)
    }
    return found, places


def _read_legacy(path: Path) -> tuple[Any, dict[str, _Place]]:
    """Reads the format before PyTorch 1.6: five pickles, and then the storages."""
    with path.open("rb") as file:
        if _Unpickler(file).load() != _LEGACY_MAGIC:
            raise _RefusedError("is no file that torch.save wrote")
        _Unpickler(file).load()  # The version of the format: there was one.
        if not _Unpickler(file).load()["little_endian"]:
            raise _RefusedError("has numbers of the other byte order")
        tracker = _StorageTracker(file)
        found, keys = tracker.load(), _Unpickler(file).load()
        size = path.stat().st_size
        places: dict[str, _Place] = {}
        for key in keys:
            num_bytes = tracker.storages[key].num_bytes
            start = file.tell() + _SIZE_BYTES
            if start + num_bytes > size:
                raise _RefusedError("is cut off")
            places[key] = _Place(start, num_bytes)
            file.seek(start + num_bytes)
    return found, places


class _StorageTracker(_Unpickler):
    """Remembers the storages, whose sizes the old format gives nowhere else."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def persistent_load(self, pid: Any) -> Storage:
        storage = super().persistent_load(pid)
        self.storages[storage.key] = storage
        return storage
