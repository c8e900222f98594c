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


def check_unused(folder: str | Path) -> None:
    """Checks that nothing is kept in a training's folder, for one that begins.

    Raises:
        InputError: Something is.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is there, of a training that was cut or of another origin; go on with "
            "--resume, begin anew with --overwrite, or move it away."
        )


@contextlib.contextmanager
def lock_checkpoints(folder: str | Path, *, unused: bool = False) -> Iterator[None]:
    """Makes a training's folder if need be, and holds it alone; at the end it goes if it is empty.

    Args:
        folder: The folder.
        unused: Whether to refuse one that something is kept in, as `check_unused`.

    Raises:
        InputError: Another training holds it, or something is in it that must not be.
    """
    folder = Path(folder)
    descriptor = _lock(folder)
    try:
        if unused:
            check_unused(folder)
        yield
    finally:
        if descriptor is None or _is_at(descriptor, folder):
            with contextlib.suppress(OSError):  # Something is in it.
                folder.rmdir()
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Returns what holds a folder until it is closed; None where the file system has no locks."""
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
    return _lock(folder)  # Who held it has just removed it.


def _is_at(descriptor: int, folder: Path) -> bool:
    """Tells whether an open folder is still what has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def remove_checkpoints(folder: str | Path) -> None:
    """Removes what a training kept in its folder, and the folder if nothing else is in it."""
    folder = Path(folder)
    remove_state(folder)
    remove_shards(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def remove_state(folder: Path) -> None:
    """Removes how far a training has come, but for text that it encoded."""
    # The state goes first: it must not be found without the weights of its epochs.
    for pattern in ("training.npz", "epoch-*.npz", ".*.npz.*.new"):
        for path in folder.glob(pattern):
            path.unlink()


def remove_shards(checkpoints: Path) -> None:
    """Removes encoded text, and what was left by a process that was killed as it wrote some."""
    for path in (checkpoints / SHARDS, *checkpoints.glob(f".{SHARDS}.*.new")):
        if path.is_dir():
            shutil.rmtree(path)
