"""The output folder: what is done of it, so that a rerun goes on where the last one ended.

    OUTPUT/FILE                     the output of an input file of that name, once it is whole
    OUTPUT/.translation/job.json    the model's checksum and the options
    OUTPUT/.translation/parts/      a file for each shard that is done, until its output is whole
    OUTPUT/.translation/files/      a record for each output

Everything is written beside its place and renamed: what is there is whole.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ktransformer._version import __version__
from ktransformer.corpora.job import Job
from ktransformer.corpora.report import Report
from ktransformer.errors import InputError, brief
from ktransformer.files import check_folder, new_file
from ktransformer.files.checksums import parse_json, read_json
from ktransformer.files.json_fields import from_json_fields

_FOLDER = ".translation"


class Workspace:
    """The output folder of a corpus; any node may open it, for it keeps nothing in memory.

    Args:
        output: The folder, the same on every node.
    """

    def __init__(self, output: str | Path) -> None:
        self.output = Path(output)
        self.folder = self.output / _FOLDER

    @contextlib.contextmanager
    def begin(self, job: Job, checksums: dict[str, str | None]) -> Iterator[None]:
        """Makes the folder, or goes on in it; no other process may use it within the block.

        Raises:
            InputError: It was begun with another model or other options, is in use, or holds
                something else.
        """
        check_folder(self.output)
        if self.output.is_dir() and not self.folder.exists() and any(self.output.iterdir()):
            raise InputError(f"{self.output} is not empty and holds no translation that was begun.")
        self.folder.mkdir(parents=True, exist_ok=True)
        with _only_one(self.folder / "lock", self.output):
            path = self.folder / "job.json"
            wanted = {"sha256": checksums, "options": job.options()}
            if path.exists():
                self._check_same(read_json(path)[1], wanted)
            else:
                _write_json(path, {"ktransformer": __version__, "model": job.model, **wanted})
            yield

    def _check_same(self, begun: Any, wanted: dict[str, Any]) -> None:
        for part in ("sha256", "options"):
            old = begun.get(part) if isinstance(begun, dict) else None
            if not isinstance(old, dict):
                raise InputError(f"{self.folder / 'job.json'} is damaged; remove {self.output}.")
            for name, value in wanted[part].items():
                if old.get(name) != value:
                    what = (
                        f"{'an' if name == 'adapter' else 'a'} {name} that has the SHA-256 "
                        if part == "sha256"
                        else f"{name} "
                    )
                    raise InputError(
                        f"{self.output} was begun with {what}{brief(old.get(name))}, which is now "
                        f"{brief(value)}; name another folder, or remove this one."
                    )

    def write_part(self, key: str, report: Report, content: bytes) -> None:
        """Writes the part of a shard: a line with its report, then its content."""
        with new_file(self._part(key)) as path, path.open("wb") as file:
            header = {"bytes": len(content), **report.fields()}
            file.write(json.dumps(header, ensure_ascii=False).encode() + b"\n")
            file.write(content)

    def read_report(self, key: str) -> Report | None:
        """Returns the report of a shard that is done; None for one that is not, or is damaged."""
        try:
            with self.open_part(key) as (header, file):
                size = os.fstat(file.fileno()).st_size - file.tell()
        except OSError:
            return None

        def find(fields: Any) -> Report | None:
            is_whole = fields.pop("bytes") == size
            return from_json_fields(Report, fields) if is_whole else None

        return _read_undamaged(header, self._part(key), find)

    @contextlib.contextmanager
    def open_part(self, key: str) -> Iterator[tuple[bytes, BinaryIO]]:
        """Yields the first line of a part and the file, at its content.

        Raises:
            OSError: It is not there.
        """
        with self._part(key).open("rb") as file:
            yield file.readline(), file

    def remove_parts(self, keys: Iterator[str] | None = None) -> None:
        """Removes parts; None for all, of whatever run."""
        if keys is None:
            shutil.rmtree(self.folder / "parts", ignore_errors=True)
            return
        for key in keys:
            self._part(key).unlink(missing_ok=True)

    def _part(self, key: str) -> Path:
        return self.folder / "parts" / key[:2] / key  # No folder has many entries.

    def read_record(self, name: str, source: str) -> Report | None:
        """Returns the report of an output that is whole; None for one that is not.

        An output whose record is damaged, or of another version, is not known to be whole.

        Args:
            name: Its file's name.
            source: The key of the input that it must be made of; see `shards.join_keys`.
        """
        path, output = self._record(name), self.output / name
        if not path.exists() or not output.is_file():
            return None
        size = output.stat().st_size

        def find(record: Any) -> Report | None:
            is_whole = record["source"] == source and record["bytes"] == size
            return from_json_fields(Report, record["report"]) if is_whole else None

        return _read_undamaged(path.read_bytes(), path, find)

    def write_record(self, name: str, path: str, source: str, report: Report) -> None:
        """Writes the record of an output, which is in its place."""
        fields = {
            "input": path,
            "source": source,
            "bytes": (self.output / name).stat().st_size,
            "report": report.fields(),
        }
        _write_json(self._record(name), fields)

    def _record(self, name: str) -> Path:
        return self.folder / "files" / f"{name}.json"


def _read_undamaged(
    content: bytes, origin: Path, find: Callable[[Any], Report | None]
) -> Report | None:
    """Returns what `find` reads in JSON; None where it is not as this version writes it."""
    try:
        return find(parse_json(content, origin))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _write_json(path: Path, content: Any) -> None:
    # In ASCII: the names of files need not be UTF-8.
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")


@contextlib.contextmanager
def _only_one(path: Path, output: Path) -> Iterator[None]:
    """Holds a lock, which a killed process frees."""
    if os.name != "posix":
        yield
        return
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{output} is being written by another process.") from None
        yield
