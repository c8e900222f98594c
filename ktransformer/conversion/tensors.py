"""Reads the tensors of a published model: safetensors or PyTorch files, one or several shards."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import ml_dtypes  # noqa: F401  (makes bfloat16 known to NumPy)
import numpy as np
import safetensors

from ktransformer.conversion.json_file import read_json_file
from ktransformer.conversion.pickled import PickledFile
from ktransformer.errors import InputError, brief, first_line

SAFETENSORS, PYTORCH = "model.safetensors", "pytorch_model.bin"
_INDEX = ".index.json"
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


class TensorInfo(NamedTuple):
    """The shape of a tensor, and its type as NumPy names it, from the header of its file."""

    shape: tuple[int, ...]
    dtype: str


class _TensorFile(Protocol):
    path: Path
    infos: dict[str, TensorInfo]

    def read(self, name: str) -> np.ndarray: ...


class _SafetensorsFile:
    """One safetensors file; the library checks its header against the size of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: Any = safetensors.safe_open(path, framework="np")
            slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise ValueError(f"is damaged, or no safetensors file ({first_line(error)})") from error
        unknown = [each for each in slices.values() if each.get_dtype() not in _DTYPES]
        if unknown:
            raise ValueError(f"holds numbers of the type {unknown[0].get_dtype()}")
        self.infos = {
            name: TensorInfo(tuple(each.get_shape()), _DTYPES[each.get_dtype()])
            for name, each in slices.items()
        }

    def read(self, name: str) -> np.ndarray:
        array: np.ndarray = self._file.get_tensor(name)
        return array


class _PyTorchFile:
    """One file of `torch.save`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = PickledFile(path)
        self.infos = {
            name: TensorInfo(tensor.shape, np.dtype(tensor.storage.dtype).name)
            for name, tensor in self._file.tensors.items()
        }

    def read(self, name: str) -> np.ndarray:
        return self._file.read(name)


class TensorReader:
    """The tensors of a folder, by name; each is read when it is asked for.

    Reads `model.safetensors`, or `pytorch_model.bin` where that is not there, or the shards that
    the index of either names. No code of a pickle is run.

    Args:
        folder: The folder.

    Raises:
        InputError: There are none; a file is missing, damaged, or holds something else than
            tensors; or the index and the shards do not agree.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, _TensorFile] = {}  # By the name of a tensor.
        for path, expected in _find_files(folder):
            file = _open(path)
            if expected is not None and expected != file.infos.keys():
                name = sorted(expected ^ file.infos.keys())[0]
                raise InputError(f"{path} does not hold what the index says: see {brief(name)}.")
            self._files |= dict.fromkeys(file.infos, file)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors."""
        return tuple(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor, without reading it."""
        return self._files[name].infos[name].shape

    def dtype(self, name: str) -> str:
        """Returns the type of a tensor as NumPy names it, such as `float16`."""
        return self._files[name].infos[name].dtype

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor; floats of any width become float32.

        Raises:
            InputError: Its numbers are damaged.
        """
        file = self._files[name]
        try:
            array = file.read(name)
        except (ValueError, safetensors.SafetensorError) as error:
            raise InputError(f"{file.path} {first_line(error)}: {name}.") from error
        return array.astype("float32") if "float" in self.dtype(name) else array

    @functools.cached_property
    def num_parameters(self) -> int:
        """The number of all numbers in all tensors."""
        return sum(math.prod(self.shape(name)) for name in self.names)


def _open(path: Path) -> _TensorFile:
    try:
        return _SafetensorsFile(path) if path.suffix == ".safetensors" else _PyTorchFile(path)
    except ValueError as error:
        raise InputError(f"{path} {first_line(error)}.") from error


def _find_files(folder: Path) -> Iterator[tuple[Path, set[str] | None]]:
    """Finds the files of tensors, each with the names that an index gives it, if there is one."""
    for name in (SAFETENSORS, PYTORCH):
        if (folder / name).is_file():
            yield folder / name, None
            return
        if (folder / (name + _INDEX)).is_file():
            yield from _read_index(folder / (name + _INDEX), Path(name).suffix)
            return
    raise InputError(f"{folder} holds no tensors: there is no {SAFETENSORS}, and no {PYTORCH}.")


def _read_index(path: Path, suffix: str) -> Iterator[tuple[Path, set[str]]]:
    content = read_json_file(path)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(each, str) for each in shards.values()):
        raise InputError(f"{path} is damaged: it has no weight_map from tensors to files.")
    for shard in sorted(set(shards.values())):
        if Path(shard).name != shard or Path(shard).suffix != suffix:
            raise InputError(f"{path} must name {suffix} files of its own folder; got {shard!r}.")
        if not (path.parent / shard).is_file():
            raise InputError(f"{path} names {shard}, which is missing.")
        yield path.parent / shard, {name for name, file in shards.items() if file == shard}
