"""Encoded pairs on disk, in shards of which one is in memory at a time."""

import dataclasses
import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.buckets import JoinedIds
from ktransformer.text.special_ids import SpecialIds

if TYPE_CHECKING:
    from ktransformer.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
INDEX, TOKENIZER, TARGET_TOKENIZER = "index.json", "tokenizer.model", "target_tokenizer.model"
ARRAYS = ("source.ids", "source.lengths", "target.ids", "target.lengths")
WEIGHTS, WEIGHT_TYPE = "weights", np.dtype("<f4")  # The file of pairs with weights.


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
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
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
        source = self._read_tokenizer(TOKENIZER, self._tokenizer)
        if self._target_tokenizer is None:
            return source, source
        return source, self._read_tokenizer(TARGET_TOKENIZER, self._target_tokenizer)

    def _read_tokenizer(self, name: str, digest: str) -> "Tokenizer":
        from ktransformer.text.tokenizer import Tokenizer

        model = _content(self.folder / name)
        if hashlib.sha256(model).hexdigest() != digest:
            raise _damaged(self.folder / name)
        return Tokenizer(model)

    @property
    def weighted(self) -> bool:
        """Whether the pairs have weights."""
        return all(WEIGHTS in sizes for sizes, _ in self._sums)

    def read_weights(self, number: int) -> np.ndarray | None:
        """Reads the weights of a shard's pairs, float32 `[N]`; None without any.

        Raises:
            InputError: The file is missing or damaged.
        """
        return self._array(number, WEIGHTS, WEIGHT_TYPE) if self.weighted else None

    def read(self, number: int) -> tuple[JoinedIds, JoinedIds]:
        """Reads the sources and the targets of a shard, counted from 0.

        Raises:
            InputError: A file of the shard is missing or damaged.
        """
        source_ids, source_lengths, target_ids, target_lengths = (
            self._array(number, name) for name in ARRAYS
        )
        return _rows(source_ids, source_lengths), _rows(target_ids, target_lengths)

    def check(self) -> None:
        """Reads every file and compares its checksum.

        Raises:
            InputError: A file is missing or damaged.
        """
        self.tokenizers()
        for number in range(len(self._sums)):
            for name in ARRAYS:
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
    names = {*ARRAYS, *sizes}
    numbers = [*pairs, *(each[name] for name in names for each in (sizes, shard["crc32"]))]
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and all(
            sizes[name] == item_bytes * sum(pairs) for name in ARRAYS if name.endswith("lengths")
        )
        and sizes.get(WEIGHTS, WEIGHT_TYPE.itemsize * sum(pairs))
        == WEIGHT_TYPE.itemsize * sum(pairs)
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
