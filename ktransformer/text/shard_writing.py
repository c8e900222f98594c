"""Encodes parallel text and deals it out to shards on disk."""

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.buckets import JoinedIds
from ktransformer.text.corpus import ParallelFiles, ParallelText
from ktransformer.text.line_limits import LengthBound, cut_line
from ktransformer.text.shards import (
    ARRAYS,
    FORMAT_VERSION,
    INDEX,
    TARGET_TOKENIZER,
    TOKENIZER,
    WEIGHT_TYPE,
    WEIGHTS,
)

if TYPE_CHECKING:
    from ktransformer.text.tokenizer import Tokenizer

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
        contents.append(weights.astype(WEIGHT_TYPE).tobytes())
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
    names = (*ARRAYS, WEIGHTS) if weighted else ARRAYS
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
    tokenizer.save(folder / TOKENIZER)
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
        target_tokenizer.save(folder / TARGET_TOKENIZER)
        index["target_tokenizer"] = target_tokenizer.sha256
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _encode(tokenizer: "Tokenizer", lines: list[str], max_length: int) -> JoinedIds:
    import tensorflow as tf

    lines = [cut_line(line, max_length) for line in lines]
    ragged = tokenizer.encode(tf.constant(lines, tf.string))
    return JoinedIds(ragged.flat_values.numpy(), ragged.row_splits.numpy())
