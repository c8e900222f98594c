"""The common part of all kinds of tokenizer, and the registry of the kinds."""

import abc
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text.line_limits import check_lines, cut_line
from ktransformer.text.special_ids import SpecialIds
from ktransformer.text.tags import find_tag

try:
    import tensorflow_text as tensorflow_text
except ImportError as error:  # There is no wheel for Windows.
    raise ImportError(
        "ktransformer.text.Tokenizer needs tensorflow-text, which is not installed "
        "(it has no release for Windows: use Linux, macOS or WSL there)."
    ) from error


class BaseTokenizer(tf.Module, abc.ABC):
    """A tokenizer that runs in a TensorFlow graph.

    A kind is one subclass, registered by `register_tokenizer`. Its constructor takes the content
    of its file, from which `load_tokenizer` tells the kind.

    Attributes:
        kind: The name of the kind, as descriptions of exports store it.
        adds_start: Whether `encode` puts the start token in front of every text. Such a tokenizer
            is for encoders: a decoder's labels have no start token.
        model: The content of its file.
        vocabulary_size: The number of ids.
        special_ids: The ids of the start, the end, padding, unknown text and the mask.
        mask_token: The mask as it is written in a text; None without one.
        symbols: The id of each text that is one unbreakable piece, the mask aside.
        unwritten_ids: The ids of symbols that a search for translations never writes.
        characters: The known characters, in order; None where they do not tell which text is known.
        lite_obstacle: Why there is no LiteRT form with the same ids, or None.
    """

    kind: ClassVar[str]
    adds_start: ClassVar[bool] = False
    model: bytes
    vocabulary_size: int
    special_ids: SpecialIds
    mask_token: str | None
    characters: str | None
    lite_obstacle: str | None
    symbols: Mapping[str, int] = MappingProxyType({})
    unwritten_ids: tuple[int, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a tokenizer of this kind that `save` wrote; `load_tokenizer` reads any kind."""
        return cls(Path(path).read_bytes())

    @abc.abstractmethod
    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Turns texts `[B]` into ids, the end token included; runs in a graph."""

    @abc.abstractmethod
    def decode(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Turns ids `[B, T]`, dense with padding or ragged, into texts `[B]`; runs in a graph."""

    @abc.abstractmethod
    def normalize_lines(self, lines: Sequence[str]) -> list[str]:
        """Normalises many lines at once, as `normalize` does one."""

    @abc.abstractmethod
    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the text of each id."""

    def normalize(self, text: str) -> str:
        """Returns what decoding the encoded text gives, unknown characters aside."""
        return self.normalize_lines([text])[0]

    @property
    def mask_id(self) -> int | None:
        """The id of the mask token, `special_ids.mask`; None without one."""
        return self.special_ids.mask

    @property
    def ordinary_ids(self) -> np.ndarray:
        """The ids of all pieces but the special ones, ascending: int32 `[N]`."""
        return self.special_ids.ordinary(self.vocabulary_size)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hexadecimal: which tokenizer this is."""
        return hashlib.sha256(self.model).hexdigest()

    def tag_id(self, tag: str) -> int:
        """Returns the id of a symbol: `"2de"` or `"<2de>"` for `<2de>`.

        Raises:
            InputError: The tokenizer has no such symbol.
        """
        return self.symbols[find_tag(tag, self.symbols)]

    def save(self, path: str | Path) -> None:
        """Writes the tokenizer's file."""
        Path(path).write_bytes(self.model)

    def encode_dense(
        self, texts: tf.Tensor, limit: int, *, language: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Turns texts `[B]` into ids of at most `limit` tokens each; runs in a graph.

        Args:
            texts: The texts.
            limit: The most tokens, the end and the language token included.
            language: A token before each text, such as `Tokenizer.language_id` returns; None for
                none.

        Returns:
            Int32 `[B, S]`, ended and padded, and boolean `[B]`, which texts were cut.
        """
        if language is not None:
            ids, truncated = self.encode_dense(texts, limit - 1)
            return tf.pad(ids, [[0, 0], [1, 0]], constant_values=language), truncated
        tokens, end, pad = self.encode(texts), self.special_ids.end, self.special_ids.pad
        splits = tf.cast(tokens.row_splits, tf.int32)  # The plain form has them in int64.
        starts, whole = splits[:-1], splits[1:] - splits[:-1]
        lengths = tf.minimum(whole, limit)[:, None]
        # Not `to_tensor`: LiteRT has no operation of its own for it.
        longest = tf.reduce_max(tf.concat([lengths[:, 0], [1]], axis=0))
        positions = tf.range(longest)  # [S]
        places = tf.minimum(starts[:, None] + positions, tf.size(tokens.flat_values) - 1)
        ids = tf.where(positions < lengths, tf.gather(tokens.flat_values, places), pad)
        return tf.where(positions == lengths - 1, end, ids), whole > limit

    def encode_lines(
        self, lines: Sequence[str], *, max_length: int | None = None
    ) -> list[np.ndarray]:
        """Encodes many lines at once: an int32 array `[S]` each, the end token included.

        Args:
            lines: The texts.
            max_length: Tokens over which the caller leaves a line out: of one that is far longer
                only the start is encoded (see `line_limits.cut_line`). None to encode all.

        Raises:
            InputError: `lines` is one string, or holds something else than strings.
        """
        lines = check_lines(lines)
        if max_length is not None:
            lines = [cut_line(line, max_length) for line in lines]
        encoded: list[np.ndarray] = []
        for i in range(0, len(lines), 10_000):
            ragged = self.encode(tf.constant(lines[i : i + 10_000]))
            encoded += np.split(ragged.flat_values.numpy(), ragged.row_splits.numpy()[1:-1])
        return encoded


T = TypeVar("T", bound=type[BaseTokenizer])

_KINDS: dict[str, type[BaseTokenizer]] = {}


def register_tokenizer(tokenizer: T) -> T:
    """Registers a kind of tokenizer; a decorator of a subclass of `BaseTokenizer`.

    Args:
        tokenizer: The class. Its file must be a JSON object with its `kind`; SentencePiece's own
            files are told without.

    Raises:
        ValueError: Another class has the same `kind`.
    """
    other = _KINDS.setdefault(tokenizer.kind, tokenizer)
    if (other.__module__, other.__qualname__) != (tokenizer.__module__, tokenizer.__qualname__):
        raise ValueError(f"kind={tokenizer.kind!r} is already registered, by {other.__qualname__}.")
    return tokenizer


def find_tokenizer(content: bytes, origin: object) -> type[BaseTokenizer]:
    """Returns the class of the tokenizer that a file holds.

    Args:
        content: The content of the file.
        origin: The file, for the message.

    Raises:
        InputError: It is JSON of no registered kind.
    """
    if not content.startswith(b"{"):  # No SentencePiece model begins so.
        return _KINDS["sentencepiece"]
    kind = read_fields(content, origin).get("kind")
    if kind not in _KINDS:
        raise InputError(
            f"{origin} is no tokenizer of a known kind: it has kind={kind!r}; "
            f"known are {', '.join(_KINDS)}."
        )
    return _KINDS[kind]


def read_fields(content: bytes, origin: object) -> dict[str, Any]:
    """Reads a tokenizer's file that is a JSON object.

    Raises:
        InputError: It is none.
    """
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin} is damaged: it is no JSON ({error}).") from error
    if not isinstance(fields, dict):
        raise InputError(f"{origin} is damaged: it is no JSON object.")
    return fields
