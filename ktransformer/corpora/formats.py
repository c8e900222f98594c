"""The formats of corpora."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ktransformer.corpora.job import Job
from ktransformer.corpora.lines import JsonLines, TextDocument, TextLines
from ktransformer.corpora.shards import Shard
from ktransformer.corpora.table import ParquetColumn
from ktransformer.errors import InputError

_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


class Format(Protocol):
    """Reads the inputs of a job and writes its outputs.

    The records of a shard are what `read` gives: its lines, or the texts of its rows.
    """

    def survey(self, path: str) -> Iterator[Shard]:
        """Reads a file from end to end, checks it and yields its shards, at least one."""

    def read(self, shard: Shard) -> Any:
        """Returns the records of a shard."""

    def parse(self, records: Any, path: str, number: int) -> list[Any]:
        """Returns the texts of records; `number` is the first one's, from 1."""

    def render(self, records: Any, found: Sequence[Any]) -> bytes:
        """Returns a part's content: the records with their translations."""

    def pack(self, path: str, content: bytes) -> bytes:
        """Returns a part's content as its file has it, such as gzipped."""

    def join(self, path: str, parts: Iterator[BinaryIO], output: BinaryIO) -> None:
        """Writes the output of a file from the parts of its shards, in order."""

    def close(self) -> None:
        """Closes the file that is open."""


def open_format(job: Job) -> Format:
    """Returns the reader and writer of a job's format."""
    if job.format == "parquet":
        return ParquetColumn(job)
    if job.format == "jsonl":
        return JsonLines(job)
    return TextDocument(job) if job.document else TextLines(job)


def find_format(paths: list[str]) -> str:
    """Returns the format that the files' names end in: `.jsonl`, `.parquet`; others are text.

    Raises:
        InputError: They are of different formats.
    """
    found = {_ENDINGS.get(Path(path.removesuffix(".gz")).suffix, "text"): path for path in paths}
    if len(found) > 1:
        raise InputError(f"The inputs must have one format; got {' and '.join(found.values())}.")
    return next(iter(found))
