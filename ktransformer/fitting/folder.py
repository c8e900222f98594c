"""What a training keeps in its folder until its run is written."""

import shutil
from pathlib import Path

SHARDS = "shards"  # The folder of encoded text, in that of the training.


def remove_checkpoints(folder: str | Path) -> None:
    """Removes what a training kept in its folder, and the folder if nothing else is in it."""
    folder = Path(folder)
    # The state goes first: it must not be found without the weights of its epochs.
    for pattern in ("training.npz", "epoch-*.npz", ".*.npz.*.new"):
        for path in folder.glob(pattern):
            path.unlink()
    remove_shards(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def remove_shards(checkpoints: Path) -> None:
    """Removes encoded text, and what was left by a process that was killed as it wrote some."""
    for path in (checkpoints / SHARDS, *checkpoints.glob(f".{SHARDS}.*.new")):
        if path.is_dir():
            shutil.rmtree(path)
