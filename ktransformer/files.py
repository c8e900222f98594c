"""Outputs that appear whole or not at all: written beside, then renamed."""

import contextlib
import ctypes
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ktransformer.errors import InputError

_UNITS = ("B", "KiB", "MiB", "GiB")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h and linux/fs.h


@contextlib.contextmanager
def new_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its name if the block succeeds.

    If the block raises, the temporary folder is removed and what was at `path` is untouched.

    Args:
        path: The folder to make; its parents are made too.
        overwrite: Whether a folder that is already there may be replaced.

    Raises:
        InputError: `path` exists and `overwrite` is False, or it is a file.
    """
    path = Path(path).resolve()  # Of a link, what it points to is replaced.
    check_new_folder(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent))
    temporary.chmod(0o777 & ~_umask())
    try:
        yield temporary
        _sync(temporary)
        check_new_folder(path, overwrite=overwrite)  # It may have appeared meanwhile.
        if path.exists():
            _exchange(temporary, path)  # The old folder now has the temporary name.
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(
    path: str | Path, *, overwrite: bool = False, kind: tuple[str, str] | None = None
) -> None:
    """Checks that a folder may be written at `path`, before any work is done for it.

    Args:
        path: The folder to make.
        overwrite: Whether a folder that is already there may be replaced.
        kind: What it must be for that, "a run folder", and the file that tells so; an empty folder
            may always be.

    Raises:
        InputError: It may not, or cannot be made.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; a folder was to be written there.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} already exists; remove it, name another or add --overwrite.")
    if kind and path.exists() and any(path.iterdir()) and not (path / kind[1]).is_file():
        raise InputError(f"{path} is not {kind[0]}, so it is not replaced; name another.")
    _check_parent(path)


def check_new_file(path: str | Path, *, overwrite: bool = False) -> None:
    """Checks that a file may be written at `path`, before any work is done for it.

    Raises:
        InputError: `path` is a folder or a device, or a file that is there while `overwrite` is
            False, or it cannot be made.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file was to be written there.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file, so it is not replaced; name another.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} already exists; remove it, name another or add --overwrite.")
    _check_parent(path)


def check_folder(path: str | Path) -> None:
    """Checks that files may be written into a folder, which may have to be made.

    Raises:
        InputError: They may not.
    """
    _check_parent(Path(path) / "file")


def _check_parent(path: Path) -> None:
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{path} cannot be made: {parent} is not a folder one may write to.")


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its name if the block succeeds.

    Raises:
        InputError: `path` is a folder or a device.
    """
    path = Path(path).resolve()  # Of a link, what it points to is replaced.
    check_new_file(path, overwrite=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def size_on_disk(path: str | Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    path = Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def readable_size(size: float) -> str:
    """Writes a number of bytes in the largest unit in which it is at least 1."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} {_UNITS[-1]}"


def _exchange(first: Path, second: Path) -> None:
    """Swaps two folders' names, in one step where the system can (Linux)."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if renameat2 is not None:
        paths = os.fsencode(first), os.fsencode(second)
        if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
            return
    aside = first.with_suffix(".old")
    second.rename(aside)
    try:
        first.rename(second)
    except OSError:
        aside.rename(second)
        raise
    aside.rename(first)


def _sync(folder: Path) -> None:
    """Makes sure that the files' contents are on the disk before their folder gets its name."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def json_text(content: Any) -> str:
    """Returns JSON of dicts, lists and plain values, null for the numbers that it cannot say."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(content: Any) -> Any:
    """Puts None in the place of every number that is infinite or none."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
