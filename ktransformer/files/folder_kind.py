"""The files that each kind of output folder may hold; no other folder is replaced or removed."""

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
    """The files of one kind of output folder.

    Attributes:
        name: The kind, with its article: "a run folder".
        files: Regular expressions (`re.fullmatch`) of the paths of its files, relative to the
            folder, with `/` between folder names. Symbolic links never match, nor does a folder
            where a file is expected.
        required: Files that every folder of this kind has.
    """

    name: str
    files: tuple[str, ...]
    required: tuple[str, ...] = ()

    def owns(self, folder: Path) -> bool:
        """Returns whether a folder has all required files."""
        return all((folder / name).is_file() for name in self.required)

    def foreign(self, folder: Path) -> list[Path]:
        """Returns the first few foreign entries of a folder, as relative paths."""
        return list(itertools.islice(self._foreign(folder), _NAMED + 1))

    def remove(self, folder: Path) -> None:
        """Removes the files of this kind and every folder that is empty then.

        Foreign files stay, with the folders around them.
        """
        for path, is_ours in self._entries(folder):
            if is_ours and _is_folder(path):
                self.remove_empty(path)
            elif is_ours:
                path.unlink(missing_ok=True)
        self.remove_empty(folder)

    @staticmethod
    def remove_empty(folder: Path) -> None:
        """Removes a folder if it is empty."""
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
        if is_empty:
            folder.rmdir()

    def _foreign(self, folder: Path) -> Iterator[Path]:
        return (path.relative_to(folder) for path, is_ours in self._entries(folder) if not is_ours)

    def _entries(self, folder: Path, parents: tuple[str, ...] = ()) -> Iterator[tuple[Path, bool]]:
        """Yields each entry with whether it is ours; does not enter foreign folders."""
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
        """Returns whether `names` is a file that matches, or a folder on the way to one."""
        if is_folder != (len(names) < len(patterns)) or len(names) > len(patterns):
            return False
        pairs = zip(patterns, names, strict=False)
        return all(re.fullmatch(pattern, name) for pattern, name in pairs)


EMPTY = FolderKind("an empty folder", ())


def name_entries(entries: list[Path]) -> str:
    """Lists the first few entries, for a message."""
    names = ", ".join(str(entry) for entry in entries[:_NAMED])
    return names + (" and more" if len(entries) > _NAMED else "")


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)
