"""The folder that holds the state of a training until its run is written."""

import contextlib
import dataclasses
import errno
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ktransformer.errors import InputError
from ktransformer.files import (
    FolderKind,
    make_folder,
    name_entries,
    remove_empty,
    remove_leavings,
    resolve,
)
from ktransformer.saving.array_file import is_array_file

STATE = "training.npz"  # The state of the training, in its folder.
SHARDS = "shards"  # The folder of encoded text, beside it.
SHARDS_KIND = FolderKind(
    "a folder of encoded text",
    (
        *(r"index\.json", r"(target_)?tokenizer\.model"),
        *(r"\d{5,}\.(source|target)\.(ids|lengths)", r"\d{5,}\.weights"),
    ),
)
_ARRAYS = re.compile(r"training\.npz|epoch-\d{4,}\.npz")
_LEAVING = re.compile(r"\.(training\.npz|epoch-\d{4,}\.npz|shards)\.[a-z0-9_]{8}\.(new|old)")
_OLDER_LEAVING = re.compile(r"\.(training|epoch-\d{4,})\.npz\.\d+\.new")  # A file.
_log = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF)  # The last from NFS, for a folder.


@dataclasses.dataclass(frozen=True)
class LockedFolder:
    """A training's folder that nobody else trains in; made by `lock_checkpoints`.

    Attributes:
        path: The folder.
    """

    path: Path


def check_unused(folder: str | Path) -> None:
    """Checks that a training's folder is empty or missing.

    Raises:
        InputError: It is neither.
    """
    folder = resolve(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is there, of a training that was cut or of another origin; go on with "
            "--resume, begin anew with --overwrite, or move it away."
        )


@contextlib.contextmanager
def lock_checkpoints(
    folder: str | Path | LockedFolder, *, unused: bool = False
) -> Iterator[LockedFolder]:
    """Creates a training's folder if it is missing, and locks it.

    At the end the folder is removed if it is empty, and so are the parents that were created.

    Args:
        folder: The folder; one that is locked already is yielded as it is.
        unused: Whether the folder must be empty, see `check_unused`.

    Yields:
        The locked folder, for `train`.

    Raises:
        InputError: Another training holds the folder, or it is not empty as `unused` asks.
    """
    if isinstance(folder, LockedFolder):
        yield folder
        return
    folder = resolve(folder)
    parents = make_folder(folder.parent)
    try:
        with _locked(folder):
            if unused:
                check_unused(folder)
            yield LockedFolder(folder)
    finally:
        remove_empty(parents)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor is None or _is_at(descriptor, folder):
            with contextlib.suppress(OSError):  # Something is in it.
                folder.rmdir()
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Returns a descriptor that locks the folder until it is closed; None without file locks."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.name != "posix":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(f"Another training is running in {folder}.") from error
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LOCKS:
            raise
        return None
    if _is_at(descriptor, folder):
        return descriptor
    os.close(descriptor)
    return _lock(folder)  # The training that held it has just removed it.


def _is_at(descriptor: int, folder: Path) -> bool:
    """Returns whether an open folder is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def check_removable(folder: str | Path) -> None:
    """Checks that a new training may remove the state of an earlier one from a folder.

    Raises:
        InputError: A file has a name that trainings use, but no training wrote it.
    """
    folder = resolve(folder)
    _check_shards(folder)
    foreign = [path for path in _named_as_arrays(folder) if not is_array_file(path)]
    if foreign:
        raise InputError(
            f"{folder} holds files that are damaged or that no training wrote, so they are not "
            f"removed: move away {name_entries([path.relative_to(folder) for path in foreign])}."
        )


def _check_shards(folder: Path) -> None:
    shards = folder / SHARDS
    if shards.is_symlink() or (shards.exists() and not shards.is_dir()):
        raise InputError(f"{shards} is not a folder that a training made: move it away.")
    foreign = SHARDS_KIND.foreign(shards) if shards.is_dir() else []
    if foreign:
        raise InputError(
            f"{shards} holds more than encoded text, so it is not replaced: move away "
            f"{name_entries(foreign)}."
        )


def remove_checkpoints(folder: str | Path) -> None:
    """Removes a training's files from its folder, and the folder if nothing else is in it.

    Logs a warning if a file cannot be removed or is of another origin.
    """
    folder = resolve(folder)
    try:
        _remove_state(folder)
        if (folder / SHARDS).is_dir() and not (folder / SHARDS).is_symlink():
            SHARDS_KIND.remove(folder / SHARDS)
        _remove_leavings(folder)
        if folder.is_dir():
            FolderKind.remove_empty(folder)
    except OSError as error:
        _log.warning("%s is no longer needed, but cannot be removed: %s.", folder, error.strerror)
        return
    if folder.is_dir():
        _log.warning("%s holds files of others, so it stays.", folder)


def remove_state(folder: str | Path) -> None:
    """Removes the state of a training, and keeps the text that it encoded.

    Raises:
        InputError: See `check_removable`.
    """
    folder = resolve(folder)
    check_removable(folder)
    _remove_state(folder)
    _remove_leavings(folder)


def _remove_state(folder: Path) -> None:
    # The state first: it must never be found without the weights of its epochs.
    for path in sorted(_named_as_arrays(folder), key=lambda path: (path.name != STATE, path.name)):
        if is_array_file(path):
            path.unlink()


def remove_shards(checkpoints: str | Path) -> None:
    """Removes encoded text.

    Raises:
        InputError: Its folder holds other files too.
    """
    checkpoints = resolve(checkpoints)
    _check_shards(checkpoints)
    if (checkpoints / SHARDS).is_dir():
        SHARDS_KIND.remove(checkpoints / SHARDS)
    _remove_leavings(checkpoints)


def _named_as_arrays(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if _ARRAYS.fullmatch(path.name)]


def _remove_leavings(folder: Path) -> None:
    """Removes the temporary files of killed processes from a training's folder."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        leaving = _LEAVING.fullmatch(path.name)
        if leaving:
            remove_leavings(folder / leaving[1], SHARDS_KIND)
        if path.is_symlink():
            continue
        if path.is_dir() and leaving and leaving[1] == SHARDS:
            SHARDS_KIND.remove(path)  # Of an older version, with no folder around it.
        elif path.is_file() and _OLDER_LEAVING.fullmatch(path.name):
            path.unlink()
