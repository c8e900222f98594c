"""Parallel text from files: read strictly, paired by line, with every exclusion counted."""

import dataclasses
import gzip
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ktransformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class ParallelText:
    """Pairs of lines, and how many pairs were left out."""

    sources: list[str]
    targets: list[str]
    empty: int
    """Pairs left out because a side is empty or holds only spaces."""

    def __len__(self) -> int:
        return len(self.sources)


def read_lines(paths: str | Path | Sequence[str | Path]) -> Iterator[str]:
    r"""Reads the lines of one or several files, plain or gzipped (`.gz`), in order.

    Only `\n` and `\r\n` end a line: other Unicode separators stay inside it, so that two sides of
    a corpus cannot fall out of step.

    Args:
        paths: A path, or several whose lines follow each other.

    Raises:
        InputError: A file is missing, is a folder, is not UTF-8 (the message names the line), or
            is a damaged gzip file.
    """
    for path in _paths(paths):
        yield from _read_file(Path(path))


def _read_file(path: Path) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield decode_line(line, str(path), number)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}, line {number + 1}: not a whole gzip file: {error}.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def decode_line(line: bytes, name: str, number: int) -> str:
    """Decodes one line as UTF-8, without its end; `name` and `number` are for the error."""
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {number}, is not valid UTF-8: byte {error.start + 1} of the line "
            f"({line[error.start]:#04x})."
        ) from error


def read_parallel(
    source_paths: str | Path | Sequence[str | Path],
    target_paths: str | Path | Sequence[str | Path],
) -> ParallelText:
    """Reads two files, or two lists of files, whose lines belong together.

    Raises:
        InputError: The sides have different numbers of lines, no pair is left, or a file cannot
            be read (see `read_lines`).
    """
    first, second = _paths(source_paths), _paths(target_paths)
    if len(first) == len(second) > 1:  # File by file: two wrong counts may make a right sum.
        sides = [_read_sides([a], [b]) for a, b in zip(first, second, strict=True)]
        sources, targets = ([line for side in sides for line in side[i]] for i in (0, 1))
    else:
        sources, targets = _read_sides(first, second)
    return _pair(zip(sources, targets, strict=True), _names(source_paths))


def _read_sides(
    source_paths: Sequence[str | Path], target_paths: Sequence[str | Path]
) -> tuple[list[str], list[str]]:
    sources, targets = list(read_lines(source_paths)), list(read_lines(target_paths))
    if len(sources) != len(targets):
        raise InputError(
            "Source and target must have the same number of lines; "
            f"got {len(sources)} in {_names(source_paths)} and {len(targets)} in "
            f"{_names(target_paths)}."
        )
    return sources, targets


def read_tsv(paths: str | Path | Sequence[str | Path]) -> ParallelText:
    """Reads files of lines `source<TAB>target`.

    Raises:
        InputError: A line has not exactly one tab, no pair is left, or a file cannot be read.
    """
    return _pair(_split_tsv(paths), _names(paths))


def _split_tsv(paths: str | Path | Sequence[str | Path]) -> Iterator[tuple[str, str]]:
    for path in _paths(paths):
        for number, line in enumerate(read_lines(path), start=1):
            fields = line.split("\t")
            if len(fields) != 2:
                raise InputError(
                    f"{path}, line {number}, must be a source, a tab and a target; "
                    f"got {len(fields) - 1} tabs."
                )
            yield fields[0], fields[1]


def _pair(pairs: Iterable[tuple[str, str]], name: str) -> ParallelText:
    every, kept = itertools.tee(pairs)
    total = sum(1 for _ in every)
    whole = [(source, target) for source, target in kept if source.strip() and target.strip()]
    if not whole:
        raise InputError(f"{name} holds no pair with text on both sides.")
    sources, targets = map(list, zip(*whole, strict=True))
    return ParallelText(sources, targets, empty=total - len(whole))


def _names(paths: str | Path | Sequence[str | Path]) -> str:
    return ", ".join(map(str, _paths(paths)))


def _paths(paths: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [paths] if isinstance(paths, (str, Path)) else paths
