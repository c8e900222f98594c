"""Parallel text from files: read strictly, paired by line, with every exclusion counted."""

import codecs
import copy
import dataclasses
import errno
import gzip
import itertools
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ktransformer.errors import InputError, brief
from ktransformer.text.cleaning import WEIGHTLESS, Cleaner, Cleaning, Pair
from ktransformer.text.line_limits import LengthBound, is_empty

_WEIGHTS = 1e-6, 1e6  # The least and the greatest weight of a pair, but for 0.


@dataclasses.dataclass(frozen=True)
class ParallelText:
    """Pairs of lines, and how many pairs were left out."""

    sources: list[str]
    targets: list[str]
    empty: int
    """Pairs left out because a side is empty, or holds only spaces and invisible characters."""
    too_long: int = 0
    """Pairs left out because a side is too long for any tokenizer; see `leave_out`."""
    weights: list[float] | None = None
    """The weight of each pair in the loss, above 0; None where all are 1."""
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    """Pairs left out by each rule of `cleaned`, and for their weight of 0, by `"weight 0"`."""
    tag: str | None = None
    """The symbol and a space that every source begins with; the rules of `cleaned` do not see
    it."""

    def __len__(self) -> int:
        return len(self.sources)

    def leave_out(self, bound: LengthBound) -> "ParallelText":
        """Returns the text without the pairs that a bound excludes, and counts these."""
        pairs = zip(self.sources, self.targets, strict=True)
        kept = [not bound.excludes(*pair) for pair in pairs]
        if all(kept):
            return self
        return dataclasses.replace(
            self,
            sources=list(itertools.compress(self.sources, kept)),
            targets=list(itertools.compress(self.targets, kept)),
            too_long=self.too_long + kept.count(False),
            weights=self.weights and list(itertools.compress(self.weights, kept)),
        )

    def cleaned(self, cleaning: Cleaning) -> "ParallelText":
        """Returns the text without the pairs that the rules drop, and counts these.

        Raises:
            InputError: No pair is left.
        """
        cleaner = Cleaner(cleaning)
        weights = self.weights or [1.0] * len(self)
        bare = [source.removeprefix(_prefix(self.tag)) for source in self.sources]
        pairs = zip(bare, self.targets, weights, strict=True)
        kept = next(_blocks(cleaner.keep(pairs), None), _NOTHING)
        if not kept:
            raise InputError(f"Cleaning leaves no pair; it dropped {cleaner.counts}.")
        dropped = self.dropped | cleaner.counts
        kept = dataclasses.replace(kept, empty=self.empty, too_long=self.too_long, dropped=dropped)
        return kept.tagged(self.tag)

    def tagged(self, tag: str | None) -> "ParallelText":
        """Returns the text with a symbol before every source; None for none."""
        if tag is None:
            return self
        sources = [_prefix(tag) + source for source in self.sources]
        return dataclasses.replace(self, sources=sources, tag=tag)


def _prefix(tag: str | None) -> str:
    return "" if tag is None else f"{tag} "


_NOTHING = ParallelText([], [], 0)


def interleave(texts: Sequence[ParallelText]) -> ParallelText:
    """Joins texts: the first pair of each, then the second of each, and so on."""
    sides = [[text.sources for text in texts], [text.targets for text in texts]]
    sources, targets = (
        [line for lines in itertools.zip_longest(*side) for line in lines if line is not None]
        for side in sides
    )
    return ParallelText(
        sources, targets, sum(t.empty for t in texts), sum(t.too_long for t in texts)
    )


def read_lines(paths: str | Path | Sequence[str | Path]) -> Iterator[str]:
    r"""Reads the lines of one or several files, plain or gzipped (`.gz`), in order.

    Only `\n` and `\r\n` end a line: other Unicode separators stay inside it, so that two sides of
    a corpus cannot fall out of step. A byte order mark at the start of a file is dropped.

    Args:
        paths: A path, or several whose lines follow each other.

    Raises:
        InputError: A file is missing, is a folder, is not UTF-8 text (the message names the
            line), as UTF-16 is not, or is a damaged gzip file.
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
    """Decodes a line as UTF-8, without its end, nor a byte order mark in the first.

    Args:
        line: Its bytes.
        name: The file's name, for errors.
        number: Which line of the file this is, from 1.

    Raises:
        InputError: It is not UTF-8, or holds a NUL, as every line of Latin text in UTF-16 does.
    """
    if b"\0" in line:
        raise InputError(
            f"{name}, line {number}, must be text in UTF-8; got a NUL, as in UTF-16 or a binary "
            "file."
        )
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {number}, is not valid UTF-8: byte {error.start + 1} of the line "
            f"({line[error.start]:#04x})."
        ) from error


class ParallelFiles:
    """Two files, or two lists of files, whose lines belong together, read anew for each pass.

    Args:
        source_paths: A path, or several whose lines follow each other.
        target_paths: Likewise. As many as there are of the sources are paired one by one.
        tag: A symbol that is put before every source; None for none.
    """

    def __init__(
        self,
        source_paths: str | Path | Sequence[str | Path],
        target_paths: str | Path | Sequence[str | Path],
        *,
        tag: str | None = None,
    ) -> None:
        self.source_paths, self.target_paths = _paths(source_paths), _paths(target_paths)
        self._tag = tag
        self._cleaning: Cleaning | None = None

    def cleaned(self, cleaning: Cleaning) -> "ParallelFiles":
        """Returns the files without the pairs that the rules drop; each pass counts these."""
        files = copy.copy(self)
        files._cleaning = cleaning
        return files

    def check(self) -> None:
        """Checks that there are files, without reading them.

        Raises:
            InputError: One is missing or a folder.
        """
        for path in (*self.source_paths, *self.target_paths):
            try:
                is_folder = stat.S_ISDIR(os.stat(path).st_mode)
            except OSError as error:
                raise InputError(f"Cannot read {path}: {error.strerror}.") from error
            if is_folder:
                raise InputError(f"Cannot read {path}: {os.strerror(errno.EISDIR)}.")

    def blocks(self, max_pairs: int | None) -> Iterator[ParallelText]:
        """Reads the pairs in order, in blocks that are all that is held.

        Args:
            max_pairs: Pairs with text on both sides of each block but the last, which has what is
                left; None for one block of all.

        Raises:
            InputError: The sides have different numbers of lines, or a file cannot be read (see
                `read_lines`); the blocks before have been yielded.
        """
        cleaner = None if self._cleaning is None else Cleaner(self._cleaning)
        for block in _blocks(self.pairs(), max_pairs, cleaner):
            yield block.tagged(self._tag)

    def pairs(self) -> Iterator[Pair]:
        """Reads the pairs, those with an empty side included; some have a weight after them."""
        first, second = self.source_paths, self.target_paths
        if len(first) == len(second) > 1:  # File by file: two wrong counts may make a right sum.
            for source, target in zip(first, second, strict=True):
                yield from _read_pairs([source], [target])
        else:
            yield from _read_pairs(first, second)


class PairFiles(ParallelFiles):
    """TSV files of a source, a tab, a target, and possibly a tab and a weight, in each line.

    The weight is that of the pair in the loss; without one it is 1. A pair of weight 0 is left out
    and counted.

    Args:
        paths: A path, or several whose lines follow each other.
        tag: See `ParallelFiles`.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], *, tag: str | None = None) -> None:
        super().__init__(paths, (), tag=tag)

    def pairs(self) -> Iterator[Pair]:
        """Reads the pairs and their weights.

        Raises:
            InputError: A line has no tab or more than two, or its weight is neither 0 nor from
                0.000001 to 1,000,000.
        """
        for fields, name in _split_tsv(self.source_paths, most_tabs=2):
            yield fields[0], fields[1], *(_read_weight(word, name) for word in fields[2:])


def _read_weight(word: str, name: str) -> float:
    try:
        weight = float(word)
    except ValueError:
        weight = -1.0
    if weight != 0 and not _WEIGHTS[0] <= weight <= _WEIGHTS[1]:
        raise InputError(
            f"{name}: weight must be 0 or a number from 0.000001 to 1000000; got {brief(word)}."
        )
    return weight


def open_parallel(
    source_paths: str | Path | Sequence[str | Path],
    target_paths: str | Path | Sequence[str | Path],
    *,
    max_pairs: int,
    tag: str | None = None,
) -> ParallelText | ParallelFiles:
    """Reads parallel text of at most `max_pairs` pairs, and leaves a longer one in its files.

    A `tag` is put before every source.

    Raises:
        InputError: See `read_parallel`; or the text is longer and a file of it can be read only
            once, as a pipe.
    """
    return open_files(ParallelFiles(source_paths, target_paths, tag=tag), max_pairs=max_pairs)


def open_files(files: ParallelFiles, *, max_pairs: int) -> ParallelText | ParallelFiles:
    """Reads the text of files as `open_parallel` does."""
    text = next(files.blocks(max_pairs + 1), _NOTHING)
    if len(text) <= max_pairs:
        return _check_some(text, _names(files.source_paths))
    for path in (*files.source_paths, *files.target_paths):
        if not Path(path).is_file():
            raise InputError(
                f"{path} must be a regular file, for a text of more than {max_pairs} pairs is read "
                "several times; write it to one."
            )
    return files


def read_parallel(
    source_paths: str | Path | Sequence[str | Path],
    target_paths: str | Path | Sequence[str | Path],
    *,
    tag: str | None = None,
) -> ParallelText:
    """Reads two files, or two lists of files, whose lines belong together.

    A `tag` is put before every source.

    Raises:
        InputError: The sides have different numbers of lines, no pair is left, or a file cannot
            be read (see `read_lines`).
    """
    text = next(ParallelFiles(source_paths, target_paths, tag=tag).blocks(None), _NOTHING)
    return _check_some(text, _names(source_paths))


def read_aligned(source_path: str | Path, target_path: str | Path) -> tuple[list[str], list[str]]:
    """Reads two files whose lines belong together, empty lines included.

    Raises:
        InputError: They have different numbers of lines or none, or cannot be read.
    """
    pairs = list(_read_pairs([source_path], [target_path]))
    if not pairs:
        raise InputError(f"{source_path} is empty.")
    sources, targets = map(list, zip(*pairs, strict=True))
    return sources, targets


def _read_pairs(
    source_paths: Sequence[str | Path], target_paths: Sequence[str | Path]
) -> Iterator[tuple[str, str]]:
    pairs = itertools.zip_longest(read_lines(source_paths), read_lines(target_paths))
    for number, (source, target) in enumerate(pairs):
        if source is None or target is None:
            longer = number + 1 + sum(1 for _ in pairs)
            counts = (number, longer) if source is None else (longer, number)
            raise InputError(
                "Source and target must have the same number of lines; "
                f"got {counts[0]} in {_names(source_paths)} and {counts[1]} in "
                f"{_names(target_paths)}."
            )
        yield source, target


def read_tsv(paths: str | Path | Sequence[str | Path]) -> ParallelText:
    """Reads files of lines `source<TAB>target`.

    Raises:
        InputError: A line has not exactly one tab, no pair is left, or a file cannot be read.
    """
    pairs = (fields for fields, _ in _split_tsv(paths, most_tabs=1))
    return _check_some(next(_blocks(pairs, None), _NOTHING), _names(paths))


def _split_tsv(
    paths: str | Path | Sequence[str | Path], *, most_tabs: int
) -> Iterator[tuple[list[str], str]]:
    """Yields the fields of each line, and its file and number for errors."""
    form = "a source, a tab and a target" + (", or these, a tab and a weight" * (most_tabs - 1))
    for path in _paths(paths):
        for number, line in enumerate(read_lines(path), start=1):
            fields, name = line.split("\t"), f"{path}, line {number}"
            if not 1 <= len(fields) - 1 <= most_tabs:
                raise InputError(f"{name}, must be {form}; got {len(fields) - 1} tabs.")
            yield fields, name


def _blocks(
    pairs: Iterable[Pair], max_pairs: int | None, cleaner: Cleaner | None = None
) -> Iterator[ParallelText]:
    block = _Block()
    counts: dict[str, int] = {} if cleaner is None else cleaner.counts
    for pair in pairs if cleaner is None else cleaner.keep(pairs):
        block.add(*pair)
        if len(block.sources) == max_pairs:
            yield block.finish(counts)
            block = _Block()
    if block.sources or block.empty or block.weightless or any(counts.values()):
        yield block.finish(counts)


class _Block:
    """A block of pairs while it is read."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.targets: list[str] = []
        self.weights: list[float] = []
        self.empty = self.weightless = 0

    def add(self, source: str, target: str, weight: float = 1.0) -> None:
        if is_empty(source) or is_empty(target):
            self.empty += 1
        elif weight == 0:
            self.weightless += 1
        else:
            self.sources.append(source)
            self.targets.append(target)
            self.weights.append(weight)

    def finish(self, counts: dict[str, int]) -> ParallelText:
        """Returns the block, and takes the counts of what was dropped since the last one."""
        dropped = counts | ({WEIGHTLESS: self.weightless} if self.weightless else {})
        counts.update(dict.fromkeys(counts, 0))
        weights = None if self.weights.count(1.0) == len(self.weights) else self.weights
        return ParallelText(
            self.sources, self.targets, self.empty, weights=weights, dropped=dropped
        )


def _check_some(text: ParallelText, name: str) -> ParallelText:
    if not text:
        raise InputError(f"{name} holds no pair with text on both sides.")
    return text


def _names(paths: str | Path | Sequence[str | Path]) -> str:
    return ", ".join(map(str, _paths(paths)))


def _paths(paths: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [paths] if isinstance(paths, (str, Path)) else paths
