"""What a SentencePiece model says of a tokenizer, read without TensorFlow."""

import hashlib
from pathlib import Path
from typing import Self

from ktransformer.errors import InputError
from ktransformer.text.piece_model import (
    MASK,
    find_line_end,
    find_symbols,
    find_tags,
    find_unlisted,
    open_processor,
)
from ktransformer.text.special_ids import SpecialIds


class StoredTokenizer:
    """A tokenizer that is only passed on: it knows its ids, but encodes nothing.

    A training on JAX has it in place of a `Tokenizer`, which needs TensorFlow.

    Attributes:
        model, vocabulary_size, special_ids, symbols, tags: As those of `Tokenizer`.

    Args:
        model: A serialized SentencePiece model.

    Raises:
        InputError: `model` is not a SentencePiece model, lacks a special id, or has a piece with a
            line end, which would break a text into two lines.
    """

    def __init__(self, model: bytes) -> None:
        processor = open_processor(model)
        broken = find_line_end(model)
        if broken is not None:
            raise InputError(
                "No piece of a tokenizer may hold a line end, for a text is one line; "
                f"got {processor.id_to_piece(broken)!r}, id {broken}."
            )
        self.model = model
        unlisted = find_unlisted(model)
        self.vocabulary_size: int = processor.vocab_size() if unlisted is None else unlisted
        symbols = find_symbols(model)
        self.special_ids = SpecialIds(
            start=processor.bos_id(),
            end=processor.eos_id(),
            pad=processor.pad_id(),
            unknown=processor.unk_id(),
            mask=symbols.pop(MASK, None),
        ).checked(self.vocabulary_size)
        self.symbols = symbols
        self.tags = find_tags(model)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a SentencePiece model."""
        return cls(Path(path).read_bytes())

    def save(self, path: str | Path) -> None:
        """Writes the SentencePiece model."""
        Path(path).write_bytes(self.model)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the model, in hexadecimal."""
        return hashlib.sha256(self.model).hexdigest()
