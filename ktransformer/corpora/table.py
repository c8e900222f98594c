"""Corpora in Parquet: a column of strings is translated into a further column."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from ktransformer.corpora.job import Job
from ktransformer.corpora.lines import value_of
from ktransformer.corpora.shards import Shard
from ktransformer.errors import InputError


class ParquetColumn:
    """Parquet files; the output has their row groups, columns and metadata, and one column more.

    Args:
        job: The job.

    Raises:
        ImportError: pyarrow is not installed.
    """

    def __init__(self, job: Job) -> None:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'Parquet needs pyarrow, which is not installed: pip install "ktransformer[ray]".'
            ) from error
        self.job = job
        self._held: tuple[str, int] | None = None
        self._texts: list[str] = []

    def survey(self, path: str) -> Iterator[Shard]:
        """Reads the column from end to end, checks every row and yields its shards.

        A shard is rows of one row group with at least `job.shard_bytes` characters. A file without
        a row has one, of no row.

        Raises:
            InputError: It is no such file, or a row has no string.
        """
        with _open(path) as file:
            self._check_schema(file.schema_arrow, path)
            number = 1
            for group in range(file.num_row_groups):
                texts = self._column(file, group, path, number)
                start = 0
                for size in _cut(texts, self.job.shard_bytes):
                    key = _key(texts[start : start + size])
                    yield Shard(path, start, size, number + start, size, key, group)
                    start += size
                number += len(texts)
            if number == 1:
                yield Shard(path, 0, 0, 1, 0, _key([]))

    def read(self, shard: Shard) -> list[str]:
        """Returns the texts of a shard.

        Raises:
            InputError: The file cannot be read, or is not the one that was surveyed.
        """
        if self._held != (shard.path, shard.row_group) and shard.count:
            with _open(shard.path) as file:
                self._texts = self._column(file, shard.row_group, shard.path, 1)
            self._held = shard.path, shard.row_group
        texts = self._texts[shard.start : shard.start + shard.size]
        if _key(texts) != shard.key:
            raise InputError(f"{shard.place}, changed while the corpus was translated.")
        return texts

    def close(self) -> None:
        """Drops the row group that is held."""
        self._held, self._texts = None, []

    def parse(self, texts: Sequence[str], path: str, number: int) -> list[str]:
        """Returns the texts."""
        return list(texts)

    def render(self, texts: Sequence[str], found: Sequence[Any]) -> bytes:
        """Returns the translations as JSON."""
        return json.dumps([value_of(each, self.job) for each in found]).encode()

    def pack(self, path: str, content: bytes) -> bytes:
        """Returns the content of a part."""
        return content

    def join(self, path: str, parts: Iterator[BinaryIO], output: BinaryIO) -> None:
        """Writes the output of a file: each row group with its translations."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        value_type = pa.list_(pa.string()) if self.job.n_best > 1 else pa.string()
        column = pa.field(self.job.output_field, value_type)
        with _open(path) as file:
            schema = file.schema_arrow.append(column)
            with pq.ParquetWriter(output, schema, compression=_compression(file)) as writer:
                for group in range(file.num_row_groups):
                    table = _read_group(file, group, path)
                    found: list[Any] = []
                    while len(found) < table.num_rows:
                        found += json.loads(next(parts).read())
                    table = table.append_column(column, pa.array(found, value_type))
                    writer.write_table(table, row_group_size=max(table.num_rows, 1))

    def _check_schema(self, schema: Any, path: str) -> None:
        import pyarrow as pa

        field, output_field = self.job.field, self.job.output_field
        if schema.names.count(field) > 1:
            raise InputError(f"{path} has several columns {field!r}; rename all but one.")
        if field not in schema.names:
            raise InputError(f"{path} has no column {field!r}, only {', '.join(schema.names)}.")
        if output_field in schema.names:
            raise InputError(f"{path} has a column {output_field!r} already; name another.")
        found = schema.field(field).type
        if not (pa.types.is_string(found) or pa.types.is_large_string(found)):
            raise InputError(f"{path}: column {field!r} must be of strings; it is of {found}.")

    def _column(self, file: Any, group: int, path: str, number: int) -> list[str]:
        # pyarrow takes "a.b" for the field b of a column a, too.
        column = _read_group(file, group, path, [self.job.field]).column(self.job.field)
        place = f"{path}, row group {group + 1}: column {self.job.field!r}"
        try:
            texts = cast(list[str], column.to_pylist())
        except UnicodeDecodeError as error:
            raise InputError(f"{place} holds text that is not valid UTF-8.") from error
        if column.null_count:
            row = number + texts.index(None)  # type: ignore[arg-type]
            raise InputError(
                f"{path}, row {row}: column {self.job.field!r} must be a string; got null."
            )
        return texts


def _cut(texts: Sequence[str], least: int) -> Iterator[int]:
    """Yields how many texts each shard has."""
    count = held = 0
    for text in texts:
        count, held = count + 1, held + len(text) + 1
        if held >= least:
            yield count
            count = held = 0
    if count:
        yield count


def _key(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _compression(file: Any) -> str:
    """Returns the codec of a file's first column; that of the others is taken to be the same."""
    if not file.num_row_groups or not file.metadata.num_columns:
        return "snappy"
    found = str(file.metadata.row_group(0).column(0).compression).lower()
    return "none" if found == "uncompressed" else found


def _open(path: str) -> Any:
    """Opens a file, to be used in a `with` block; reads its end, where its schema is."""
    import pyarrow.parquet as pq

    with _input_errors(path):
        file = pq.ParquetFile(path)
        _ = file.schema_arrow.names  # pyarrow decodes them when they are asked for.
        return file


def _read_group(file: Any, group: int, path: str, columns: list[Any] | None = None) -> Any:
    """Reads a row group of the file at a path; None for all columns."""
    with _input_errors(path):
        return file.read_row_group(group, columns=columns)


@contextlib.contextmanager
def _input_errors(path: str) -> Iterator[None]:
    """Raises what pyarrow raises as it reads a file as an InputError."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a whole Parquet file: {error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} has a column whose name is not valid UTF-8.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
