"""A shard of a corpus: a part of one input file that is translated at once."""

import dataclasses
import hashlib
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Where a shard lies, and what it holds.

    Attributes:
        path: The input file.
        start: Its first byte, decompressed; of Parquet, its first row in the row group.
        size: Its bytes; of Parquet, its rows.
        number: Its first line or row in the file, from 1.
        count: Its lines or rows.
        key: SHA-256 of its content, which names its part: equal shards share one.
        row_group: The row group of Parquet; 0 otherwise.
    """

    path: str
    start: int
    size: int
    number: int
    count: int
    key: str
    row_group: int = 0

    @property
    def place(self) -> str:
        """Names the shard in messages."""
        return f"{self.path}, lines {self.number} to {self.number + self.count - 1}"


def join_keys(keys: Iterable[str]) -> str:
    """Returns one SHA-256 over those of the shards of a file."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()
