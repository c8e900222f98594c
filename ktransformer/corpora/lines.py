"""Corpora of lines, plain or gzipped: a text a line, or a JSON object a line."""

import contextlib
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from ktransformer.corpora.job import Job
from ktransformer.corpora.shards import Shard
from ktransformer.errors import InputError, brief, check_unicode
from ktransformer.tasks.document_outputs import split_lines
from ktransformer.text.corpus import decode_line

_COPY_BYTES = 1 << 20
_PIECE_BYTES = 1 << 13  # Of a document; as `translate --document` takes them.


class TextLines:
    r"""Files with a text on each line.

    Only `\n` and `\r\n` end a line. The output has a line for each, or `n_best` lines, which end
    in `\n`.

    Args:
        job: The job.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._opened: tuple[str, BinaryIO] | None = None

    def survey(self, path: str) -> Iterator[Shard]:
        """Reads a file from end to end, checks every line and yields its shards.

        A shard is whole lines of at least `job.shard_bytes`. An empty file has one, of no line.

        Raises:
            InputError: The file cannot be read, or a line is broken; see `decode_line`.
        """
        start, number = 0, 1
        with _reading(path) as file:
            while (lines := file.readlines(self.job.shard_bytes)) or number == 1:
                self.parse(lines, path, number)
                content = b"".join(lines)
                key = _key(content, path, number)
                yield Shard(path, start, len(content), number, len(lines), key)
                start, number = start + len(content), number + len(lines)
                if not lines:
                    return

    def read(self, shard: Shard) -> list[bytes]:
        """Returns the lines of a shard.

        Of a gzip all that is before the shard is read as well, but only once for shards that
        follow each other: the file stays open.

        Raises:
            InputError: The file cannot be read, or is not the one that was surveyed.
        """
        if self._opened is None or self._opened[0] != shard.path:
            self.close()
            with _named(shard.path):
                self._opened = shard.path, _open(shard.path)
        with _named(shard.path):
            self._opened[1].seek(shard.start)
            content = self._opened[1].read(shard.size)
        if _key(content, shard.path, shard.number) != shard.key:
            raise InputError(f"{shard.place}, changed while the corpus was translated.")
        return io.BytesIO(content).readlines()

    def close(self) -> None:
        """Closes the file that is open."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def parse(self, lines: Sequence[bytes], path: str, number: int) -> list[Any]:
        """Returns the text of each line.

        Args:
            lines: The lines.
            path: Their file, for errors.
            number: The first one's number in it, from 1.

        Raises:
            InputError: A line is broken.
        """
        return [decode_line(line, path, i) for i, line in enumerate(lines, number)]

    def render(self, lines: Sequence[bytes], found: Sequence[Any]) -> bytes:
        """Returns what stands in the output for the lines of a shard and their translations."""
        return "".join(f"{on_one_line(t)}\n" for each in found for t in each.texts).encode()

    def pack(self, path: str, content: bytes) -> bytes:
        """Returns a part's content: gzipped where the input is."""
        return gzip.compress(content, mtime=0) if _is_gzip(path) else content

    def join(self, path: str, parts: Iterator[BinaryIO], output: BinaryIO) -> None:
        """Writes the output of a file: its parts one behind the other."""
        for part in parts:
            while block := part.read(_COPY_BYTES):
                output.write(block)


class TextDocument(TextLines):
    """Files that are a document each; bytes of any kind go through, as `translate --document`."""

    def parse(self, lines: Sequence[bytes], path: str, number: int) -> list[Any]:
        return list(split_lines(b"".join(lines), _PIECE_BYTES))

    def render(self, lines: Sequence[bytes], found: Sequence[Any]) -> bytes:
        return "".join(each.text for each in found).encode(errors="surrogateescape")


class JsonLines(TextLines):
    """Files with a JSON object on each line, of which a field is translated.

    The output has each line as it was, with a further field at its end: the translation, or a list
    of `n_best`.
    """

    def parse(self, lines: Sequence[bytes], path: str, number: int) -> list[Any]:
        texts = super().parse(lines, path, number)
        return [self._field(text, f"{path}, line {i}") for i, text in enumerate(texts, number)]

    def render(self, lines: Sequence[bytes], found: Sequence[Any]) -> bytes:
        name = json.dumps(self.job.output_field, ensure_ascii=False)
        rendered = []
        for line, each in zip(lines, found, strict=True):
            value = json.dumps(value_of(each, self.job), ensure_ascii=False)
            # The line is an object that is not empty: it ends in a brace behind a value.
            rendered.append(b"%s, %s: %s}\n" % (_open_end(line), name.encode(), value.encode()))
        return b"".join(rendered)

    def _field(self, line: str, place: str) -> str:
        field, output_field = cast(str, self.job.field), self.job.output_field
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}, is no JSON object: {brief(line)}.") from error
        if not isinstance(record, dict):
            raise InputError(f"{place}, is no JSON object: {brief(line)}.")
        if field not in record:
            raise InputError(f"{place}, has no field {field!r}, only {', '.join(record)}.")
        if output_field in record:
            raise InputError(f"{place}, has a field {output_field!r} already; name another.")
        text = record[field]
        if not isinstance(text, str):
            raise InputError(f"{place}: field {field!r} must be a string; got {brief(text)}.")
        check_unicode(f"{place}: field {field!r}", text)
        return text


def value_of(found: Any, job: Job) -> str | list[str]:
    """Returns a translation as a field or a column has it: a string, or a list of `n_best`."""
    return list(found.texts) if job.n_best > 1 else found.text


def on_one_line(text: str) -> str:
    """Replaces line breaks, which a model with byte pieces may give, by spaces."""
    return text.replace("\n", " ").replace("\r", " ")


def _open_end(line: bytes) -> bytes:
    """Returns the line of an object without the brace at its end."""
    return line.rstrip()[:-1].rstrip()


def _key(content: bytes, path: str, number: int) -> str:
    """Returns the key of lines: equal keys have equal parts.

    So it tells gzipped lines from plain ones, and the first line of a file, in which a byte order
    mark is no part of the text.
    """
    kind = f"{'gzip' if _is_gzip(path) else 'plain'} {'first' if number == 1 else 'later'}\n"
    return hashlib.sha256(kind.encode() + content).hexdigest()


def _is_gzip(path: str) -> bool:
    return Path(path).suffix == ".gz"


def _open(path: str) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if _is_gzip(path) else open(path, "rb"))


@contextlib.contextmanager
def _reading(path: str) -> Iterator[BinaryIO]:
    with _named(path), _open(path) as file:
        yield file


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Names the file in errors of reading it."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file: {error}.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
