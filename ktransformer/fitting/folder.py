"""What a training keeps in its folder until its run is written."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ktransformer.errors import InputError

SHARDS = "shards"  # The folder of encoded text, in that of the training.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF)  # The last from NFS, for a folder.


@contextlib.contextmanager
def lock_checkpoints(folder: str | Path) -> Iterator[None]:
    """Makes a training's folder if need be, and holds it alone; at the end it goes if it is empty.

    Raises:
        InputError: Another training holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # Something is in it.
            folder.rmdir()


def _lock(folder: Path) -> int | None:
    """Returns what holds a folder until it is closed; None where the file system has no locks."""
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
    return descriptor


def remove_checkpoints(folder: str | Path) -> None:
    """Removes what a training kept in its folder, and the folder if nothing else is in it."""
    folder = Path(folder)
    empty_checkpoints(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def empty_checkpoints(folder: Path) -> None:
    """Removes what a training kept in its folder."""
    # The state goes first: it must not be found without the weights of its epochs.
    for pattern in ("training.npz", "epoch-*.npz", ".*.npz.*.new"):
        for path in folder.glob(pattern):
            path.unlink()
    remove_shards(folder)


def remove_shards(checkpoints: Path) -> None:
    """Removes encoded text, and what was left by a process that was killed as it wrote some."""
    for path in (checkpoints / SHARDS, *checkpoints.glob(f".{SHARDS}.*.new")):
        if path.is_dir():
            shutil.rmtree(path)
