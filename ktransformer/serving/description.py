"""What an export says about itself."""

import dataclasses
import hashlib
import json
from typing import Any

from ktransformer._version import __version__
from ktransformer.config import DecodingConfig
from ktransformer.errors import InputError
from ktransformer.serving.translator import SPECIAL_IDS, Translator

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Description:
    """The metadata of an export, as JSON in or beside it.

    Attributes:
        signatures: The names of its signatures.
        vocabulary_size: V, the number of ids.
        max_source_length: The longest source, in tokens, the end token included.
        max_target_length: The longest target, likewise.
        decoding: How it searches, as in the run's configuration.
        special_ids: `start`, `end`, `pad`, and those that are `suppressed`.
        tokenizer_sha256: Of the SentencePiece model that the ids belong to.
        source_label: What the source is: a language or any words.
        target_label: What the target is.
        tokenizer: The kind of its tokenizer; there is one so far.
        quantization: How its weights are stored: `none`, `float16` or `dynamic_int8`.
        batch_size: How many texts it takes at once; None for any number.
        kind: What sort of model it is.
        format_version: Of this description and of the signatures.
        ktransformer: The version that wrote it.
    """

    signatures: tuple[str, ...]
    vocabulary_size: int
    max_source_length: int
    max_target_length: int
    decoding: DecodingConfig
    special_ids: dict[str, Any]
    tokenizer_sha256: str
    source_label: str = ""
    target_label: str = ""
    tokenizer: str = "sentencepiece"
    quantization: str = "none"
    batch_size: int | None = None
    kind: str = "translator"
    format_version: int = FORMAT_VERSION
    ktransformer: str = __version__

    @classmethod
    def of(cls, translator: Translator, **others: Any) -> "Description":
        """Describes an export of a translator; `others` are what it does not know."""
        return cls(
            vocabulary_size=translator.tokenizer.vocabulary_size,
            max_source_length=translator.max_source_length,
            max_target_length=translator.max_target_length,
            decoding=translator.decoding,
            special_ids=SPECIAL_IDS._asdict(),
            tokenizer_sha256=hashlib.sha256(translator.tokenizer.model).hexdigest(),
            **others,
        )

    def to_json(self) -> str:
        """Returns the description as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, origin: object) -> "Description":
        """Reads what `to_json` wrote.

        Args:
            text: The JSON.
            origin: What to call the export in an error.

        Raises:
            InputError: It is no such JSON, or of another kind or a newer version.
        """
        damaged = InputError(f"{origin} is not an export of ktransformer, or it is damaged.")
        try:
            fields = json.loads(text)
            kind, version = fields["kind"], fields["format_version"]
            writer = fields["ktransformer"]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged from error
        if kind != "translator":
            raise InputError(f"{origin} is a {kind}, not a translator.")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{origin} was written by ktransformer {writer}, in another format than this "
                f"version ({__version__}) reads: export it again."
            )
        try:
            fields["signatures"] = tuple(fields["signatures"])
            fields["decoding"] = DecodingConfig(**fields["decoding"])
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise damaged from error
