"""Paths that TensorFlow takes for patterns."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PATTERN = set("*?[]\\")


@contextlib.contextmanager
def without_pattern(path: Path) -> Iterator[Path]:
    """Yields a path of the same folder that TensorFlow takes literally: itself, or a link to it.

    TensorFlow looks for a model's variables by a pattern that begins with the path (2.21): it does
    not find them in `a[1]`, and in `a*` it may find another model's.
    """
    if _PATTERN.isdisjoint(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "model"
        link.symlink_to(path.absolute(), target_is_directory=True)
        yield link
