"""What an export of a translator tells of itself."""

import dataclasses
from typing import Any, ClassVar

from ktransformer.config import DecodingConfig
from ktransformer.tasks.text_description import TextDescription


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslatorDescription(TextDescription):
    """The metadata of an export of a translator.

    Attributes:
        source_vocabulary_size: The number of ids of the source; None if it shares those of the
            target.
        max_source_length: The longest source, in tokens, the end token included.
        max_target_length: The longest target, likewise.
        decoding: The settings of the search, as in the run's configuration.
        shortlist: Pieces of the vocabulary that a batch is searched in; None for all of them.
        special_ids: `start`, `end`, `pad`, and those that are `suppressed`.
        target_tokenizer_sha256: Of the SentencePiece model that decodes the target; None if it is
            the source's.
        source_label: The language of the source, or any other name of it.
        target_label: The same of the target.
        characters: Those that its tokenizer knows; None where that cannot be told, as in exports
            of versions that did not write it.
        symbols: The ids of the symbols of its tokenizer, by symbol; see `Tokenizer.symbols`.
    """

    STATEFUL: ClassVar[frozenset[str]] = frozenset({"decode_step"})

    kind: str = "translator"
    max_source_length: int
    max_target_length: int
    decoding: DecodingConfig
    special_ids: dict[str, Any]
    target_tokenizer_sha256: str | None = None
    source_label: str = ""
    target_label: str = ""
    source_vocabulary_size: int | None = None
    shortlist: int | None = None
    characters: str | None = None
    symbols: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def target_characters(self) -> str | None:
        """The characters that the tokenizer of the target knows; None where they are not stored."""
        return self.characters if self.target_tokenizer_sha256 is None else None

    @property
    def inexact(self) -> str:
        return super().inexact or ("" if self.shortlist is None else "has a shortlist")
