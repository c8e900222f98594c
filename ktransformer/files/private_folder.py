"""Temporary folders beside an output, and the removal of those that killed processes left.

`mkdtemp` makes a folder `.NAME.RANDOM.new`: its name cannot be guessed, it never reuses an existing
entry, and only its owner may enter it. So no other user can redirect our writes by a link. Its
process holds a lock on a file inside; the next writer of the same output removes folders whose lock
is free.
"""

import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ktransformer.files.folder_kind import EMPTY, FolderKind

_LOCK = "lock"
_NEW, _REPLACED = ".new", ".old"
_log = logging.getLogger(__name__)


class PrivateFolder:
    """A locked temporary folder beside an output.

    Attributes:
        output: The path that the content will be renamed to.
        path: The folder.
        content: A path in it with the output's name: write here.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path, self._lock = _make(output)
        self._status = self.path.lstat()

    @property
    def content(self) -> Path:
        return self.path / self.output.name

    def is_ours(self) -> bool:
        """Returns whether `path` is still the folder that we made."""
        try:
            return os.path.samestat(self._status, self.path.lstat())
        except FileNotFoundError:
            return False

    def mark_replaced(self) -> None:
        """Renames the folder to `.old`: from now on it may hold the output that was replaced."""
        marked = self.path.with_suffix(_REPLACED)
        self.path.rename(marked)
        self.path = marked

    def remove(self, kind: FolderKind) -> None:
        """Removes the folder; of a replaced output, only the files of `kind`."""
        try:
            if self.is_ours():
                _remove(self.output, self.path, kind)
        finally:
            if self._lock is not None:
                os.close(self._lock)


def remove_leavings(output: Path, kind: FolderKind) -> None:
    """Removes the temporary folders of `output` whose processes have ended.

    Args:
        output: The output that they belong to.
        kind: The files of a replaced output that may be removed.
    """
    if os.name != "posix":
        return  # Nothing tells whether their processes have ended.
    name = re.compile(rf"\.{re.escape(output.name)}\.[a-z0-9_]{{8}}\.(new|old)")
    with os.scandir(output.parent) as entries:
        found = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
    for path in found:
        with contextlib.suppress(OSError):  # It is another user's, or just goes.
            _remove_leaving(output, path, kind)


def _remove_leaving(output: Path, path: Path, kind: FolderKind) -> None:
    status = path.lstat()
    if status.st_uid != os.geteuid() or path.is_symlink() or not path.is_dir():
        return
    if not {entry.name for entry in path.iterdir()} <= {_LOCK, output.name}:
        return  # No process of ours makes such a folder.
    if not (path / _LOCK).exists():
        path.rmdir()  # Fails unless it is empty: its process ended before it made the lock.
        return
    if path.suffix == _REPLACED and not output.exists():
        return  # It may be the only copy.
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if _hold(lock):
            _remove(output, path, kind)
    finally:
        os.close(lock)


def _remove(output: Path, path: Path, kind: FolderKind) -> None:
    content = path / output.name
    if path.suffix == _REPLACED and content.is_dir():
        kind.remove(content)
        if content.exists():
            kept = output.with_name(f"{output.name}.{secrets.token_hex(4)}.kept")
            content.rename(kept)
            _log.warning("%s was replaced; what others had put there is now in %s.", output, kept)
    shutil.rmtree(path, ignore_errors=True)


def _make(output: Path) -> tuple[Path, int | None]:
    """Makes the folder and locks it; the lock is None where the system has none."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=_NEW, dir=output.parent))
        if os.name != "posix":
            return path, None
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # Another process took it for abandoned and removed it.
        try:
            held = _hold(lock)
        except OSError:
            return path, lock  # Nobody can lock it, so nobody removes it.
        if held and path.exists():
            return path, lock
        os.close(lock)


def _hold(lock: int) -> bool:
    """Locks an open file; returns False if another process holds the lock.

    Raises:
        OSError: The file system has no locks.
    """
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def private_folder(output: Path, kind: FolderKind = EMPTY) -> Iterator[PrivateFolder]:
    """Yields a temporary folder beside `output`; removes it afterwards, and abandoned ones first.

    Args:
        output: The path that the content will be renamed to; its parent exists.
        kind: The files of a replaced output that may be removed.
    """
    remove_leavings(output, kind)
    folder = PrivateFolder(output)
    try:
        yield folder
    finally:
        folder.remove(kind)
