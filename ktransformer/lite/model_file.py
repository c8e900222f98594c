"""The .tflite file as a flatbuffer: the metadata in it."""

import struct
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from ktransformer.errors import InputError

_METADATA = "ktransformer"
_IDENTIFIER = b"TFL3"


def with_metadata(content: bytes, text: str) -> bytes:
    """Adds a text to the file's metadata, under the name `ktransformer`."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer = schema.BufferT()
    buffer.data = list(text.encode())
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = _METADATA
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def custom_operations(content: bytes) -> set[str]:
    """Returns the names of the operations that are not LiteRT's own."""
    model = schema.Model.GetRootAsModel(content, 0)
    codes = (model.OperatorCodes(i) for i in range(model.OperatorCodesLength()))
    return {code.CustomCode().decode() for code in codes if code.CustomCode()}


def read_metadata(path: str | Path) -> bytes:
    """Returns the text that `with_metadata` added.

    Raises:
        InputError: There is no such file, or it is not a .tflite, or not one of ktransformer's.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    if content[4:8] != _IDENTIFIER:
        raise InputError(f"{path} is not a .tflite file.")
    try:
        model = schema.Model.GetRootAsModel(content, 0)
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            if entry.Name() == _METADATA.encode():
                return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is a .tflite file, but a damaged one.") from error
    raise InputError(f"{path} is a .tflite file, but not one that ktransformer wrote.")
