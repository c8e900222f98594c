"""A SentencePiece tokenizer that runs without TensorFlow, for a .tflite that takes ids."""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from ktransformer.text.piece_model import (
    SPACE,
    find_unlisted,
    lite_obstacle,
    open_processor,
    piece_schema,
)
from ktransformer.text.stored_tokenizer import StoredTokenizer

_UNKNOWN_TEXT = " \N{DOUBLE QUESTION MARK} "  # As SentencePiece writes the unknown piece.


class ProcessorTokenizer(StoredTokenizer):
    """A `Tokenizer` without a graph: the sentencepiece package computes the same ids and texts.

    Args:
        model: A serialized SentencePiece model of which `runs` is true.

    Raises:
        InputError: As a `StoredTokenizer`.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__(model)
        self._processor = open_processor(model)
        count = len(self.symbols) + (self.special_ids.mask is not None)
        self._symbol_count, self._symbols_end = count, self.vocabulary_size - count
        proto = piece_schema().ModelProto.FromString(model)
        types = proto.SentencePiece
        texts = {types.CONTROL: "", types.UNKNOWN: _UNKNOWN_TEXT}
        self._texts = [
            texts.get(each.type, each.piece.replace(SPACE, " ")) for each in proto.pieces
        ]

    @classmethod
    def open(cls, model: bytes) -> Self | None:
        """Opens the content of a tokenizer's file; None if only `load_tokenizer` can.

        These are other kinds, and SentencePiece models whose LiteRT form differs or whose ids are
        those of a table.
        """
        if model.startswith(b"{"):  # No SentencePiece model begins so.
            return None
        open_processor(model)  # Raises for what is none.
        if lite_obstacle(model) is not None or find_unlisted(model) is not None:
            return None
        return cls(model)

    def encode_texts(
        self, texts: Sequence[bytes], limit: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Encodes texts, as `BaseTokenizer.encode_dense` does.

        Args:
            texts: B texts, in UTF-8.
            limit: The most tokens, the end token included.

        Returns:
            An int32 array `[S]` for each text, its end token last, and boolean `[B]`, which texts
            were cut.
        """
        rows, cut = [], np.zeros(len(texts), bool)
        for i, ids in enumerate(self._processor.encode(list(texts), num_threads=1)):
            cut[i] = len(ids) + 1 > limit
            row = np.array([*ids[: limit - 1], self.special_ids.end], np.int32)
            rows.append(np.where(row >= self._symbols_end, row - self._symbol_count, row))
        return rows, cut

    def decode_rows(self, rows: Iterable[Sequence[int]]) -> list[bytes]:
        """Decodes rows of ids, as `Tokenizer.decode` does; returns UTF-8.

        An id behind the last piece is written as the unknown piece.
        """
        decoded, count = [], len(self._texts)
        for row in rows:
            texts = [self._texts[i] if i < count else _UNKNOWN_TEXT for i in row]
            if texts:
                texts[0] = texts[0].removeprefix(" ")
            decoded.append("".join(texts).encode())
        return decoded
