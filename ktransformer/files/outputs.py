"""Writes files and folders beside their destination, then renames them into place."""

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ktransformer.errors import InputError
from ktransformer.files.folder_kind import EMPTY, FolderKind, name_entries
from ktransformer.files.private_folder import PrivateFolder, private_folder

_AT_FDCWD, _RENAME_NOREPLACE, _RENAME_EXCHANGE = -100, 1, 2  # linux/fcntl.h and linux/fs.h


@contextlib.contextmanager
def new_folder(
    path: str | Path, *, overwrite: bool = False, kind: FolderKind = EMPTY
) -> Iterator[Path]:
    """Yields a temporary folder, which is renamed to `path` if the block succeeds.

    If the block raises, the temporary folder and new parents are removed, and what was at `path` is
    untouched.

    Args:
        path: The folder to write; missing parents are created.
        overwrite: Whether an existing folder may be replaced.
        kind: The kind that an existing folder must be; foreign files are never removed.

    Raises:
        InputError: See `check_new_folder`.
    """
    path = resolve(path)  # Replaces the target of a link, not the link.
    check_new_folder(path, overwrite=overwrite, kind=kind)
    with _parents_of(path), private_folder(path, kind) as private:
        private.content.mkdir()
        yield private.content
        _sync(private.content)
        _check_ours(private)
        check_new_folder(path, overwrite=overwrite, kind=kind)  # It may have changed meanwhile.
        if path.exists():
            private.mark_replaced()
            _exchange(private.content, path)
        else:
            _rename_new(private.content, path)


def check_new_folder(
    path: str | Path, *, overwrite: bool = False, kind: FolderKind = EMPTY
) -> None:
    """Checks that a folder can be written at `path`; call it before expensive work.

    Args:
        path: The folder to write.
        overwrite: Whether an existing folder may be replaced.
        kind: The kind that an existing folder must be, unless it is empty.

    Raises:
        InputError: The folder exists and may not be replaced, holds foreign files, or cannot be
            created.
    """
    path, target = Path(path), resolve(path)
    if target.exists() and not target.is_dir():
        raise InputError(f"{path} is a file; a folder was to be written there.")
    if target.exists() and not overwrite:
        raise InputError(f"{path} already exists; remove it, name another or add --overwrite.")
    if target.exists() and any(target.iterdir()):
        _check_kind(path, target, kind)
    _check_parent(target)


def _check_kind(path: Path, target: Path, kind: FolderKind) -> None:
    if not kind.owns(target):
        raise InputError(f"{path} is not {kind.name}, so it is not replaced; name another.")
    foreign = kind.foreign(target)
    if foreign:
        raise InputError(
            f"{path} holds more than {kind.name} does, so it is not replaced: move away "
            f"{name_entries(foreign)}, or name another folder."
        )


def check_new_file(path: str | Path, *, overwrite: bool = False) -> None:
    """Checks that a file can be written at `path`; call it before expensive work.

    Raises:
        InputError: `path` is a folder or a device, exists while `overwrite` is False, or cannot
            be created.
    """
    path, target = Path(path), resolve(path)
    if target.is_dir():
        raise InputError(f"{path} is a folder; a file was to be written there.")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is no regular file, so it is not replaced; name another.")
    if target.exists() and not overwrite:
        raise InputError(
            f"{path} already exists; remove it, name another or add --overwrite, in Python "
            "overwrite=True."
        )
    _check_parent(target)


def check_folder(path: str | Path) -> None:
    """Checks that files can be written into a folder, whether or not it exists yet.

    Raises:
        InputError: They cannot.
    """
    _check_parent(Path(path) / "file")


def make_folder(path: Path) -> list[Path]:
    """Creates a folder and its missing parents; returns those that it created, innermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders in their order, except those that hold something."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def resolve(path: str | Path) -> Path:
    """Returns the absolute path with all links followed.

    Raises:
        InputError: A link points to itself, or another user placed it in a world-writable folder.
    """
    path = Path(path)
    loop = InputError(f"{path} is a symbolic link that leads to itself.")
    try:
        resolved = path.resolve()
    except (RuntimeError, OSError) as error:
        raise loop from error
    if any(place.is_symlink() for place in (resolved, *resolved.parents)):  # From Python 3.13 on.
        raise loop
    for place in (path.absolute(), *path.absolute().parents):
        if os.name == "posix" and place.is_symlink() and _is_planted(place):
            raise InputError(
                f"{place} is another user's symbolic link in a folder that all may write to, so "
                "it is not followed."
            )
    return resolved


def _is_planted(link: Path) -> bool:
    """Returns whether Linux refuses to follow this link (the rule of fs.protected_symlinks)."""
    owner, folder = link.lstat().st_uid, link.parent.stat()
    return bool(folder.st_mode & stat.S_IWOTH) and owner not in (os.geteuid(), folder.st_uid)


def _check_parent(path: Path) -> None:
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{path} cannot be made: {parent} is not a folder one may write to.")


@contextlib.contextmanager
def new_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields a temporary path, which is renamed to `path` if the block succeeds.

    Args:
        path: The file to write; missing parents are created.
        overwrite: Whether an existing file may be replaced.

    Raises:
        InputError: See `check_new_file`.
    """
    path = resolve(path)  # Replaces the target of a link, not the link.
    check_new_file(path, overwrite=overwrite)
    with _parents_of(path), private_folder(path) as private:
        yield private.content
        with private.content.open("rb") as handle:
            os.fsync(handle.fileno())
        _check_ours(private)
        check_new_file(path, overwrite=overwrite)  # It may have appeared meanwhile.
        if overwrite:
            private.content.replace(path)
        else:
            _rename_new(private.content, path)


@contextlib.contextmanager
def _parents_of(path: Path) -> Iterator[None]:
    """Creates the missing parents of a path; removes them again if the block raises."""
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in missing:  # The innermost first.
            with contextlib.suppress(OSError):  # Somebody else has written into it.
                parent.rmdir()
        raise


def _check_ours(private: PrivateFolder) -> None:
    """Raises if another process replaced the temporary folder."""
    if not private.is_ours():
        raise InputError(
            f"{private.output} was not written: somebody moved away {private.path}, in which it "
            "was made; name a place that others may not write to."
        )


def _exchange(first: Path, second: Path) -> None:
    """Swaps the names of two folders; atomic on Linux."""
    if _rename(first, second, _RENAME_EXCHANGE):
        return
    aside = first.with_name("replaced")
    second.rename(aside)
    try:
        first.rename(second)
    except OSError:
        aside.rename(second)
        raise
    aside.rename(first)


def _rename_new(first: Path, second: Path) -> None:
    """Renames to a free name; atomic on Linux."""
    if not _rename(first, second, _RENAME_NOREPLACE):
        if second.exists():
            raise InputError(f"{second} has just been written by another process.")
        first.rename(second)


def _rename(first: Path, second: Path, flag: int) -> bool:
    """Calls Linux' renameat2; returns False if it fails or does not exist."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    paths = os.fsencode(first), os.fsencode(second)
    failed: int = renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flag)
    return failed == 0


def _sync(folder: Path) -> None:
    """Flushes all files to disk, so that the renamed folder is complete after a power cut."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
