"""Temporary folders beside an output, and those that a process that was killed left there.

A folder `.NAME.RANDOM.new` is made by `mkdtemp`: its name cannot be guessed, whatever lies there
already is not taken, and only its owner may enter it. So nothing that is written inside can be
redirected by a link that somebody else laid. As long as its process lives, it holds a lock on a
file in it; without that lock, the next one who writes the same output removes it.
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
    """A temporary folder of one process, beside what it is for.

    Attributes:
        output: What it is for.
        path: The folder.
        content: A path in it that has the output's name, for what is to take its place.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path, self._lock = _make(output)
        self._status = self.path.lstat()

    @property
    def content(self) -> Path:
        return self.path / self.output.name

    def is_ours(self) -> bool:
        """Tells whether the folder at `path` is still the one that was made."""
        try:
            return os.path.samestat(self._status, self.path.lstat())
        except FileNotFoundError:
            return False

    def mark_replaced(self) -> None:
        """Names the folder as one that may hold what an output replaced: no longer only ours."""
        marked = self.path.with_suffix(_REPLACED)
        self.path.rename(marked)
        self.path = marked

    def remove(self, kind: FolderKind) -> None:
        """Removes the folder; of what an output replaced, only the files of `kind`."""
        try:
            if self.is_ours():
                _remove(self.output, self.path, kind)
        finally:
            if self._lock is not None:
                os.close(self._lock)


def remove_leavings(output: Path, kind: FolderKind) -> None:
    """Removes the temporary folders of `output` whose processes have ended.

    Args:
        output: What they were for.
        kind: What may be removed of a folder that was replaced.
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
    """Makes the folder, and its lock; None where there is none."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=_NEW, dir=output.parent))
        if os.name != "posix":
            return path, None
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # Another process has just taken it for a leaving, and removed it.
        try:
            held = _hold(lock)
        except OSError:
            return path, lock  # Nobody can lock it, so nobody removes it.
        if held and path.exists():
            return path, lock
        os.close(lock)


def _hold(lock: int) -> bool:
    """Locks an open file; returns False if another process holds it.

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
    """Makes a temporary folder beside `output` and removes it at the end, with older leavings.

    Args:
        output: What it is for; its parent is there.
        kind: What may be removed of a folder that is replaced.
    """
    remove_leavings(output, kind)
    folder = PrivateFolder(output)
    try:
        yield folder
    finally:
        folder.remove(kind)
