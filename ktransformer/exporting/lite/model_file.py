"""The .tflite file: its metadata, its operations, and how it is written."""

import contextlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ktransformer.errors import InputError
from ktransformer.exporting.lite.file_pages import MAPPING
from ktransformer.files.checksums import is_sealed, seal

_METADATA = "ktransformer"
_IDENTIFIER = b"TFL3"
_MAX_METADATA = 1000  # Entries; of a damaged file the number may be any.
_DATA = 4  # Where a buffer's table has its data, as the schema's `Buffer.Data` does.
_ALIGNMENT = 16  # Of a buffer, in bytes, as the schema asks.


def unpack(content: bytes) -> Any:
    """Returns a file's contents as objects of the schema, to be changed and packed again."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Any) -> bytes:
    """Writes the model; of equal vectors, such as two tensors' shapes, the file has one."""
    builder = _Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        if elemSize == 1 and numElems >= _ALIGNMENT:
            alignment = _ALIGNMENT
        started: int = super().StartVector(elemSize, numElems, alignment)
        return started


def set_metadata(model: Any, text: str, name: str = _METADATA) -> None:
    """Sets an entry of the model's metadata, a new one or one that is there."""
    model.buffers.append(schema.BufferT(data=np.frombuffer(text.encode(), np.uint8)))
    entry = schema.MetadataT(name=name, buffer=len(model.buffers) - 1)
    others = [other for other in model.metadata or [] if other.name not in (name, name.encode())]
    model.metadata = [*others, entry]


def read_metadata(path: str | Path) -> bytes:
    """Returns the description that an export of ktransformer carries.

    Raises:
        InputError: There is no such file, or it is not a .tflite, or not one of ktransformer's.
    """
    with _mapped(path) as content:
        start, end = _find_metadata(content, path)
        return bytes(content[start:end])


def seal_file(content: bytes) -> bytes:
    """Writes the checksum of a whole .tflite into its description; its size stays the same."""
    start, _ = _find_metadata(content, "the file")
    return seal(content, start)


def check_file(path: str | Path) -> None:
    """Compares a .tflite with the checksum in its description.

    Raises:
        InputError: It is damaged: another file than was written.
    """
    with _mapped(path) as content:
        start, end = _find_metadata(content, path)
        if not is_sealed(content, start, end):
            raise InputError(
                f"{path} is a .tflite file, but a damaged one: its checksum is another."
            )


@contextlib.contextmanager
def _mapped(path: str | Path) -> Iterator[Any]:
    """Yields a file's contents, of which the system reads only the parts in use."""
    try:
        with (
            MAPPING,
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            yield content
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a .tflite file.") from error  # It is empty.


def _find_metadata(content: Any, origin: object) -> tuple[int, int]:
    """Returns where the description begins and ends in a .tflite."""
    if content[4:8] != _IDENTIFIER:
        raise InputError(f"{origin} is not a .tflite file.")
    try:
        model = schema.Model.GetRootAsModel(content, 0)
        for i in range(min(model.MetadataLength(), _MAX_METADATA)):
            entry = model.Metadata(i)
            if entry.Name() == _METADATA.encode():
                data = model.Buffers(entry.Buffer())
                start = data._tab.Vector(data._tab.Offset(_DATA))
                end = start + data.DataLength()
                if start < 8 or end > len(content):
                    raise IndexError
                return start, end
    except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{origin} is a .tflite file, but a damaged one.") from error
    raise InputError(f"{origin} is a .tflite file, but not one that ktransformer wrote.")


def read_custom_operations(path: str | Path) -> set[str]:
    """Returns the names of a file's operations that are not LiteRT's own.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    with _mapped(path) as content:
        try:
            return custom_operations(content)
        except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is a .tflite file, but a damaged one.") from error


def custom_operations(content: Any) -> set[str]:
    """Returns the names of the operations that are not LiteRT's own."""
    model = schema.Model.GetRootAsModel(content, 0)
    codes = (model.OperatorCodes(i) for i in range(model.OperatorCodesLength()))
    return {code.CustomCode().decode() for code in codes if code.CustomCode()}
