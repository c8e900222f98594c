"""Encoded pairs on disk, in shards of which one is in memory at a time."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.batches import Batch, EpochBatches, TokenBatches
from ktransformer.text.buckets import Buckets, JoinedIds
from ktransformer.text.corpus import ParallelFiles, ParallelText
from ktransformer.text.line_limits import LengthBound, cut_line
from ktransformer.text.special_ids import SpecialIds

if TYPE_CHECKING:
    from ktransformer.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
_INDEX, _TOKENIZER, _TARGET_TOKENIZER = "index.json", "tokenizer.model", "target_tokenizer.model"
_ARRAYS = ("source.ids", "source.lengths", "target.ids", "target.lengths")
_WEIGHTS, _WEIGHT_TYPE = "weights", np.dtype("<f4")  # The file of pairs with weights.
_BLOCK_PAIRS = 10_000  # Encoded at a time.


class _ShardFiles:
    """The files of one shard while they are written, and their entry in the index."""

    def __init__(self, folder: Path, number: int, max_length: int, names: Sequence[str]) -> None:
        self._paths = {name: folder / f"{number:05d}.{name}" for name in names}
        self._bytes = dict.fromkeys(names, 0)
        self._checksums = dict.fromkeys(names, 0)
        self._lengths = np.zeros(max_length + 1, "int64")
        for path in self._paths.values():
            path.touch()

    def append(
        self, sides: tuple[JoinedIds, JoinedIds], kind: np.dtype, weights: np.ndarray
    ) -> None:
        """Appends pairs; their weights only if the shard has a file for them."""
        arrays = [array for side in sides for array in (side.flat, side.lengths)]
        contents = [array.astype(kind).tobytes() for array in arrays]
        contents.append(weights.astype(_WEIGHT_TYPE).tobytes())
        for name, content in zip(self._paths, contents, strict=False):
            with self._paths[name].open("ab") as file:  # Not kept open: shards may be thousands.
                file.write(content)
            self._bytes[name] += len(content)
            self._checksums[name] = zlib.crc32(content, self._checksums[name])
        longer = np.maximum(*(side.lengths for side in sides))
        self._lengths += np.bincount(longer, minlength=len(self._lengths))

    def describe(self) -> dict[str, Any]:
        """Returns sizes, checksums, and the number of pairs by the length of their longer side."""
        return {
            "bytes": self._bytes,
            "crc32": self._checksums,
            "pairs_by_length": self._lengths.tolist(),
        }


@dataclasses.dataclass(frozen=True)
class EncodedBlock:
    """A block of pairs, encoded.

    Attributes:
        sides: The ids of the sources and of the targets, in the type of the shards.
        fits: Boolean `[N]`, whether a pair is short enough.
        weights: Float `[N]`, the weights of the pairs.
    """

    sides: tuple[JoinedIds, JoinedIds]
    fits: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.fits)


class _BlockEncoder:
    """Encodes blocks of pairs; see `write_shards`. Another process may do it: it can be pickled."""

    def __init__(
        self,
        tokenizers: "tuple[Tokenizer, Tokenizer]",
        max_length: int,
        bound: LengthBound | None,
        kind: np.dtype,
    ) -> None:
        self._tokenizers, self._max_length = tokenizers, max_length
        self._bound, self._kind = bound, kind

    def __call__(self, block: ParallelText) -> EncodedBlock:
        source, target = (
            _encode(tokenizer, lines, self._max_length)
            for tokenizer, lines in zip(
                self._tokenizers, (block.sources, block.targets), strict=True
            )
        )
        fits = np.maximum(source.lengths, target.lengths) <= self._max_length
        if self._bound is not None:
            texts = zip(block.sources, block.targets, strict=True)
            fits &= [not self._bound.excludes(*pair) for pair in texts]
        sides = tuple(JoinedIds(s.flat.astype(self._kind), s.starts) for s in (source, target))
        return EncodedBlock(
            (sides[0], sides[1]), fits, np.array(block.weights or [1.0] * len(block))
        )

    def __reduce__(self) -> tuple[Any, ...]:
        source, target = self._tokenizers
        models = source.model, None if target is source else target.model
        return _open_encoder, (models, self._max_length, self._bound, self._kind)


def _open_encoder(models: tuple[bytes, bytes | None], *settings: Any) -> _BlockEncoder:
    from ktransformer.text.tokenizer import Tokenizer

    source = Tokenizer(models[0])
    target = source if models[1] is None else Tokenizer(models[1])
    return _BlockEncoder((source, target), *settings)


BlockMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def write_shards(
    folder: str | Path,
    tokenizer: "Tokenizer",
    files: ParallelFiles,
    *,
    pairs: int,
    shard_pairs: int,
    max_length: int,
    bound: LengthBound | None = None,
    about: dict[str, Any] | None = None,
    on_block: Callable[[int], None] = lambda done: None,
    target_tokenizer: "Tokenizer | None" = None,
    weighted: bool = False,
    map_blocks: BlockMap = map,
) -> None:
    """Encodes parallel text and deals its pairs out to shards, in constant memory.

    Consecutive pairs go to different shards in random order, so that every shard is a sample of the
    whole text. The same text gives the same shards.

    Args:
        folder: An existing, empty folder; the tokenizers are written there, too.
        tokenizer: Encodes the source, and the target without a `target_tokenizer`.
        files: The text.
        pairs: The number of its pairs with text on both sides (see `survey_files`).
        shard_pairs: Pairs in a shard, at most.
        max_length: Pairs with a side longer than this many tokens, the end token included, are
            left out and counted.
        bound: Leaves pairs out as too long whatever their tokens: pairs that were not in the
            tokenizer's training text may be encoded as a single unknown token.
        about: Properties of the text and settings, as JSON; stored in the index.
        on_block: Called after each block with the number of pairs read so far.
        target_tokenizer: Encodes the target; None for one tokenizer of both sides.
        weighted: Whether to write the weights of the pairs (see `survey_files`).
        map_blocks: Maps the encoding over blocks of pairs in their order, as `map` does; with
            `runtime.ray_cluster.map_on_cluster` the processes of a Ray cluster encode. The shards
            are the same, byte for byte.

    Raises:
        InputError: The folder is not empty, no pair is short enough, the text has another number
            of pairs, or a file of it cannot be read.
    """
    folder = Path(folder)
    if any(folder.iterdir()):
        raise InputError(f"{folder} must be empty for encoded text; something is in it.")
    count = -(-pairs // shard_pairs)
    target_tokenizer = target_tokenizer or tokenizer
    largest = max(tokenizer.vocabulary_size, target_tokenizer.vocabulary_size, max_length)
    kind = np.dtype("<u2" if largest < 1 << 16 else "<i4")
    names = (*_ARRAYS, _WEIGHTS) if weighted else _ARRAYS
    shards = [_ShardFiles(folder, number, max_length, names) for number in range(count)]
    random = np.random.default_rng(0)
    done = too_long = 0
    # A multiple of the number of shards: so all are as large, give or take one pair.
    blocks = files.blocks(-(-_BLOCK_PAIRS // count) * count)
    encoder = _BlockEncoder((tokenizer, target_tokenizer), max_length, bound, kind)
    # Without those of lines with an empty side alone.
    for block in map_blocks(encoder, (block for block in blocks if block)):
        sides, fits = block.sides, block.fits
        rounds = np.tile(np.arange(count), (-(-len(block) // count), 1))
        places = random.permuted(rounds, axis=1).ravel()[: len(block)]
        for number, shard in enumerate(shards):
            rows = np.flatnonzero(fits & (places == number))
            if len(rows):
                shard.append((sides[0].take(rows), sides[1].take(rows)), kind, block.weights[rows])
        done += len(block)
        too_long += int((~fits).sum())
        on_block(done)
    if done != pairs:
        raise InputError(f"The text has changed: it had {pairs} pairs and now has {done}.")
    if too_long == pairs:
        raise InputError(f"No pair has at most max_length={max_length} tokens.")
    tokenizer.save(folder / _TOKENIZER)
    index = {
        "format_version": FORMAT_VERSION,
        "about": about or {},
        "tokenizer": tokenizer.sha256,
        "special_ids": target_tokenizer.special_ids._asdict(),
        "type": kind.str,
        "max_length": max_length,
        "too_long": too_long,
        "shards": [shard.describe() for shard in shards],
    }
    if target_tokenizer is not tokenizer:
        target_tokenizer.save(folder / _TARGET_TOKENIZER)
        index["target_tokenizer"] = target_tokenizer.sha256
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _encode(tokenizer: "Tokenizer", lines: list[str], max_length: int) -> JoinedIds:
    import tensorflow as tf

    lines = [cut_line(line, max_length) for line in lines]
    ragged = tokenizer.encode(tf.constant(lines, tf.string))
    return JoinedIds(ragged.flat_values.numpy(), ragged.row_splits.numpy())


@dataclasses.dataclass(frozen=True)
class Shards:
    """A folder that `write_shards` wrote.

    Attributes:
        folder: The folder.
        about: The `about` of `write_shards`.
        max_length: The most tokens of a side, the end token included.
        too_long: Pairs that were left out because of their length.
        pairs_by_length: For each shard, the number of pairs whose longer side has 0, 1, 2, ...
            tokens.
        special_ids: Those of the target's tokenizer.
    """

    folder: Path
    about: dict[str, Any]
    max_length: int
    too_long: int
    pairs_by_length: list[np.ndarray]
    special_ids: SpecialIds
    _tokenizer: str
    _target_tokenizer: str | None
    _type: np.dtype
    _sums: list[tuple[dict[str, int], dict[str, int]]]

    @classmethod
    def open(cls, folder: str | Path) -> "Shards":
        """Reads the index.

        Raises:
            InputError: The folder has no index, a damaged one, or one of a newer version.
        """
        folder = Path(folder)
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            if index["format_version"] > FORMAT_VERSION:
                raise InputError(f"{folder} is of a newer ktransformer: upgrade it to read it.")
            if not _is_index(index):
                raise ValueError("an index of another form")
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{folder} does not hold encoded text.") from error
        return cls(
            folder,
            index["about"],
            index["max_length"],
            index["too_long"],
            [np.array(shard["pairs_by_length"], "int64") for shard in index["shards"]],
            SpecialIds(**index.get("special_ids", {})),  # An older index has the default ones.
            index["tokenizer"],
            index.get("target_tokenizer"),
            np.dtype(index["type"]),
            [(shard["bytes"], shard["crc32"]) for shard in index["shards"]],
        )

    @property
    def pairs(self) -> int:
        """The number of pairs in all shards."""
        return int(sum(counts.sum() for counts in self.pairs_by_length))

    @property
    def tokens(self) -> int:
        """The total number of tokens of the longer sides of all pairs."""
        return int(sum(counts @ np.arange(len(counts)) for counts in self.pairs_by_length))

    def tokenizers(self) -> "tuple[Tokenizer, Tokenizer]":
        """Reads the tokenizers of the source and of the target, which may be one.

        Raises:
            InputError: A file of theirs is missing or damaged.
        """
        source = self._read_tokenizer(_TOKENIZER, self._tokenizer)
        if self._target_tokenizer is None:
            return source, source
        return source, self._read_tokenizer(_TARGET_TOKENIZER, self._target_tokenizer)

    def _read_tokenizer(self, name: str, digest: str) -> "Tokenizer":
        from ktransformer.text.tokenizer import Tokenizer

        model = _content(self.folder / name)
        if hashlib.sha256(model).hexdigest() != digest:
            raise _damaged(self.folder / name)
        return Tokenizer(model)

    @property
    def weighted(self) -> bool:
        """Whether the pairs have weights."""
        return all(_WEIGHTS in sizes for sizes, _ in self._sums)

    def read_weights(self, number: int) -> np.ndarray | None:
        """Reads the weights of a shard's pairs, float32 `[N]`; None without any.

        Raises:
            InputError: The file is missing or damaged.
        """
        return self._array(number, _WEIGHTS, _WEIGHT_TYPE) if self.weighted else None

    def read(self, number: int) -> tuple[JoinedIds, JoinedIds]:
        """Reads the sources and the targets of a shard, counted from 0.

        Raises:
            InputError: A file of the shard is missing or damaged.
        """
        source_ids, source_lengths, target_ids, target_lengths = (
            self._array(number, name) for name in _ARRAYS
        )
        return _rows(source_ids, source_lengths), _rows(target_ids, target_lengths)

    def check(self) -> None:
        """Reads every file and compares its checksum.

        Raises:
            InputError: A file is missing or damaged.
        """
        self.tokenizers()
        for number in range(len(self._sums)):
            for name in _ARRAYS:
                self._array(number, name)
            self.read_weights(number)

    def _array(self, number: int, name: str, kind: np.dtype | None = None) -> np.ndarray:
        path = self.folder / f"{number:05d}.{name}"
        content = _content(path)
        sizes, checksums = self._sums[number]
        if len(content) != sizes[name] or zlib.crc32(content) != checksums[name]:
            raise _damaged(path)
        return np.frombuffer(content, kind or self._type)


def _is_index(index: Any) -> bool:
    """Returns whether JSON has the form of an index with consistent sizes."""
    kinds = {"about": dict, "max_length": int, "too_long": int, "tokenizer": str, "shards": list}
    if index["type"] not in ("<u2", "<i4") or any(
        type(index[name]) is not kind for name, kind in kinds.items()
    ):
        return False
    special_ids = index.get("special_ids", {})
    if not special_ids.keys() <= set(SpecialIds._fields):
        return False
    return all(_is_shard(shard, np.dtype(index["type"]).itemsize) for shard in index["shards"])


def _is_shard(shard: Any, item_bytes: int) -> bool:
    pairs, sizes = shard["pairs_by_length"], shard["bytes"]
    names = {*_ARRAYS, *sizes}
    numbers = [*pairs, *(each[name] for name in names for each in (sizes, shard["crc32"]))]
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and all(
            sizes[name] == item_bytes * sum(pairs) for name in _ARRAYS if name.endswith("lengths")
        )
        and sizes.get(_WEIGHTS, _WEIGHT_TYPE.itemsize * sum(pairs))
        == _WEIGHT_TYPE.itemsize * sum(pairs)
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged; remove {path.parent}, so that it is written anew.")


def _rows(ids: np.ndarray, lengths: np.ndarray) -> JoinedIds:
    return JoinedIds(ids, np.concatenate([[0], np.cumsum(lengths, dtype="int64")]))


class ShardedBatches(EpochBatches):
    """Batches for `model.fit` of encoded pairs on disk, of which one shard is in memory.

    `TokenBatches` makes the batches of each shard. The order of the shards, and the order within
    each, changes every epoch. A batch depends only on seed, epoch and step, and is reached without
    reading the shards before its own.

    Args:
        shards: The shards.
        batch_tokens: The most tokens of a batch on each side, padding included.
        bucket_step: Distance between two buckets' lengths, in tokens.
        seed: Seed of all orders.
        copies: See `TokenBatches`.
        row_multiple: See `TokenBatches`.

    Attributes:
        steps_per_epoch: Batches in an epoch.
        too_long: Pairs left out when the shards were written.

    Raises:
        InputError: `batch_tokens` is below the shards' `max_length`.

    Example:
        ```python
        files = ParallelFiles("train.en.gz", "train.de.gz")
        survey = survey_files(files, sample_pairs=500_000)
        tokenizer = Tokenizer.train(survey.sample.sources + survey.sample.targets, 8000)
        write_shards(
            "shards", tokenizer, files, pairs=survey.pairs, shard_pairs=500_000, max_length=128
        )
        batches = ShardedBatches(Shards.open("shards"), batch_tokens=2048)
        model.fit(batches.dataset(), steps_per_epoch=batches.steps_per_epoch, shuffle=False)
        ```
    """

    def __init__(
        self,
        shards: Shards,
        *,
        batch_tokens: int,
        bucket_step: int = 4,
        seed: int = 0,
        copies: int = 1,
        row_multiple: int = 1,
    ) -> None:
        self._shards, self._seed = shards, seed
        self._options: dict[str, Any] = {
            "batch_tokens": batch_tokens,
            "max_length": shards.max_length,
            "bucket_step": bucket_step,
            "row_multiple": row_multiple,
        }
        self._copies = copies
        self.weighted = shards.weighted
        self._steps = [self._count_steps(counts) for counts in shards.pairs_by_length]
        self.steps_per_epoch = sum(self._steps)
        self.batch_tokens = batch_tokens
        self.tokens = shards.tokens
        self.too_long = shards.too_long

    def _count_steps(self, pairs_by_length: np.ndarray) -> int:
        lengths = np.repeat(np.arange(len(pairs_by_length)), pairs_by_length)
        if not len(lengths):  # All of its pairs were too long.
            return 0
        return Buckets(lengths, "pair", shuffle=False, seed=0, **self._options).steps_per_epoch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch; see `EpochBatches.epoch`.

        Raises:
            InputError: A shard is missing or damaged.
        """
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._steps))
        for number in order:
            if first_step < self._steps[number]:
                # Without a name, so that it is freed before the next one is read.
                yield from self._read(int(number)).epoch(epoch, first_step)
            first_step = max(first_step - self._steps[number], 0)

    def _read(self, number: int) -> TokenBatches:
        seed = np.random.SeedSequence([self._seed, number]).generate_state(1, np.uint64)[0]
        return TokenBatches(
            *self._shards.read(number),
            weights=self._shards.read_weights(number),
            seed=int(seed),
            copies=self._copies,
            special_ids=self._shards.special_ids,
            **self._options,
        )
