"""Which files a folder of ours may hold: only such a folder is replaced or removed."""

import dataclasses
import itertools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_NAMED = 3  # Foreign entries that a message names.


@dataclasses.dataclass(frozen=True)
class FolderKind:
    """The files that one kind of folder consists of.

    Attributes:
        name: The kind, with its article: "a run folder".
        files: The paths of the files that are written there, relative to the folder, as regular
            expressions for `re.fullmatch`, a `/` between the names of folders. A symbolic link, or
            a folder in the place of a file, is never one of them.
        required: Files without which a folder is not of this kind.
    """

    name: str
    files: tuple[str, ...]
    required: tuple[str, ...] = ()

    def owns(self, folder: Path) -> bool:
        """Tells whether a folder has what is required of this kind."""
        return all((folder / name).is_file() for name in self.required)

    def foreign(self, folder: Path) -> list[Path]:
        """Returns the first entries of a folder that are not of this kind, relative to it."""
        return list(itertools.islice(self._foreign(folder), _NAMED + 1))

    def remove(self, folder: Path) -> None:
        """Removes a folder's files that are of this kind, and then every folder that is empty.

        What else is there stays, and the folders around it.
        """
        for path, is_ours in self._entries(folder):
            if is_ours and _is_folder(path):
                self.remove_empty(path)
            elif is_ours:
                path.unlink(missing_ok=True)
        self.remove_empty(folder)

    @staticmethod
    def remove_empty(folder: Path) -> None:
        """Removes a folder if nothing is in it."""
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
        if is_empty:
            folder.rmdir()

    def _foreign(self, folder: Path) -> Iterator[Path]:
        return (path.relative_to(folder) for path, is_ours in self._entries(folder) if not is_ours)

    def _entries(self, folder: Path, parents: tuple[str, ...] = ()) -> Iterator[tuple[Path, bool]]:
        """Yields all entries, and whether each is ours; of a foreign folder only itself."""
        with os.scandir(folder.joinpath(*parents)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            names = (*parents, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            is_ours = (is_folder or entry.is_file(follow_symlinks=False)) and any(
                self._matches(pattern.split("/"), names, is_folder) for pattern in self.files
            )
            if is_ours and is_folder:
                yield from self._entries(folder, names)
            yield folder.joinpath(*names), is_ours

    @staticmethod
    def _matches(patterns: list[str], names: tuple[str, ...], is_folder: bool) -> bool:
        """Tells whether names lead to a file that a pattern describes, or to a folder above it."""
        if is_folder != (len(names) < len(patterns)) or len(names) > len(patterns):
            return False
        pairs = zip(patterns, names, strict=False)
        return all(re.fullmatch(pattern, name) for pattern, name in pairs)


EMPTY = FolderKind("an empty folder", ())


def name_entries(entries: list[Path]) -> str:
    """Names the first of several entries, and says whether there are more."""
    names = ", ".join(str(entry) for entry in entries[:_NAMED])
    return names + (" and more" if len(entries) > _NAMED else "")


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)
