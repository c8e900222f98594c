"""SHA-256 checksums: a description holds one for each file beside it and one for itself.

They detect damage, not forgery: anyone who can change a file can also write a new checksum.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ktransformer.errors import InputError
from ktransformer.files.contents import json_text

KEY = "sha256"
UNSEALED = "0" * 64  # Stands for a description's own checksum while that is computed.
_MAX_JSON = 1 << 24  # Bytes of a description: 16 MiB.
_FIELD = re.compile(rb'"sha256": "([0-9a-f]{64})"')


def description_text(fields: dict[str, Any]) -> str:
    """Returns a description as JSON, with a placeholder for its own checksum; see `seal`."""
    return json_text({**fields, KEY: UNSEALED})


def seal(content: bytes, start: int = 0) -> bytes:
    """Replaces the placeholder in a description by the checksum of `content`.

    Args:
        content: A description, or a file that holds one; of any size.
        start: Where the description begins.
    """
    place = _find_checksum(content, start)
    digest = _digest_around(content, place).encode()
    return content[:place] + digest + content[place + len(digest) :]


def is_sealed(content: Any, start: int = 0, end: int | None = None) -> bool:
    """Returns whether the description between `start` and `end` holds the checksum of `content`.

    Args:
        content: `bytes` or an `mmap`.
        start: Where the description begins.
        end: Where it ends; None for the end of `content`.
    """
    place = _find_checksum(content[start:end], 0)
    if place < 0:
        return False
    place += start
    return bytes(content[place : place + 64]) == _digest_around(content, place).encode()


def _find_checksum(content: bytes, start: int) -> int:
    """Returns the offset of the checksum's 64 digits, or -1 if there are none."""
    found = _FIELD.search(content, start)
    return -1 if found is None else found.start(1)


def _digest_around(content: Any, place: int) -> str:
    """Returns the SHA-256 of content, with its own 64 digits at `place` read as the placeholder."""
    digest, view = hashlib.sha256(), memoryview(content)
    try:
        digest.update(view[:place])
        digest.update(UNSEALED.encode())
        digest.update(view[place + len(UNSEALED) :])
    finally:
        view.release()  # An mmap with a view of it cannot be closed.
    return digest.hexdigest()


def parse_json(content: bytes, origin: object) -> Any:
    """Parses untrusted JSON.

    Args:
        content: The JSON.
        origin: Its name in error messages.

    Raises:
        InputError: It is not JSON, nested too deep, or over 16 MiB.
    """
    if len(content) > _MAX_JSON:
        raise InputError(
            f"{origin} has {len(content)} bytes; at most {_MAX_JSON} are read of a description."
        )
    try:
        return json.loads(content)
    except RecursionError as error:
        raise InputError(f"{origin} is damaged: its JSON is nested too deep.") from error
    except ValueError as error:
        raise InputError(f"{origin} is damaged: it is not JSON.") from error


def read_json(path: Path) -> tuple[bytes, Any]:
    """Reads a JSON file; returns its bytes and the parsed content.

    Raises:
        InputError: The file cannot be read, or see `parse_json`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_JSON + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    return content, parse_json(content, path)


def folder_checksums(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file in a folder and its subfolders, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, checksums: Any, required: Iterable[str]) -> None:
    """Compares the files of a folder with the checksums in its description.

    Args:
        folder: The folder.
        checksums: What `folder_checksums` returned, read from a file.
        required: The files that must be among them.

    Raises:
        InputError: A file is missing or has changed, or `checksums` is damaged.
    """
    if not isinstance(checksums, dict) or not set(required) <= checksums.keys():
        raise InputError(f"{folder} is damaged: its description lacks checksums of its files.")
    for name, expected in checksums.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{folder} is damaged: its description names {name!r} outside of it.")
        if not path.is_file():
            raise InputError(f"{folder} is not whole: {name} is missing.")
        try:
            found = file_sha256(path)
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}.") from error
        if found != expected:
            raise InputError(
                f"{path} is damaged or was changed after it was written: its SHA-256 is "
                f"{found}, not {expected}."
            )
