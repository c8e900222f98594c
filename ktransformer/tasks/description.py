"""What an export says about itself."""

import dataclasses
import types
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from ktransformer._version import __version__
from ktransformer.config import BatchingConfig, DecodingConfig
from ktransformer.errors import InputError, check_unicode
from ktransformer.files.checksums import description_text, parse_json

FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)  # 1 has no checksums.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """The metadata of an export, as JSON in or beside it; each kind of model adds its own.

    Attributes:
        kind: What sort of model it is.
        signatures: The names of its signatures.
        quantization: How its weights are stored: `none`, `float16` or `dynamic_int8`.
        batch_size: How many inputs it takes at once; None for any number.
        batching: How it joins the texts of concurrent requests; None where it doesn't.
        format_version: Of this description and of the signatures.
        ktransformer: The version that wrote it.
        files: The SHA-256 of every other file of the export, by relative path.
        sha256: Of the description's own file, with this field as `checksums.UNSEALED`.
    """

    kind: str = "model"
    signatures: tuple[str, ...]
    quantization: str = "none"
    batch_size: int | None = None
    batching: BatchingConfig | None = None
    format_version: int = FORMAT_VERSION
    ktransformer: str = __version__
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    sha256: str = ""

    def __post_init__(self) -> None:
        """Refuses labels and names of classes that are no UTF-8, before any work is done."""
        for name, value in vars(self).items():
            for text in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(text, str):
                    check_unicode(name, text)

    @property
    def inexact(self) -> str:
        """Why it is not expected to give just what its model gives, in words; or nothing."""
        return "" if self.quantization == "none" else "is quantised"

    def to_json(self) -> str:
        """Returns the description as JSON, with a place for its checksum; see `checksums.seal`."""
        return description_text(dataclasses.asdict(self))

    @property
    def has_checksums(self) -> bool:
        """Whether the export was written with checksums, as all are since format version 2."""
        return self.format_version > 1

    @classmethod
    def from_json(cls, text: str | bytes, origin: object) -> Self:
        """Reads what `to_json` wrote; `Description` itself reads that of any kind.

        Args:
            text: The JSON.
            origin: What to call the export in an error.

        Raises:
            InputError: It is no such JSON, or of another kind or a newer version.
        """
        damaged = InputError(f"{origin} is not an export of ktransformer, or it is damaged.")
        try:
            fields = parse_json(text.encode() if isinstance(text, str) else text, origin)
            kind, version = fields["kind"], fields["format_version"]
            writer = fields["ktransformer"]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged from error
        if not isinstance(kind, str):
            raise damaged
        known = {described.kind: described for described in (cls, *cls.__subclasses__())}
        if kind not in known:
            raise InputError(f"{origin} is {with_article(kind)}, not {with_article(cls.kind)}.")
        if version not in _READABLE:
            raise InputError(
                f"{origin} was written by ktransformer {writer}, in another format than this "
                f"version ({__version__}) reads: export it again."
            )
        try:
            description = known[kind](**known[kind]._from_fields(fields))
        except InputError as error:
            raise InputError(f"{origin} is damaged: {error}") from error
        except (TypeError, KeyError, ValueError) as error:
            raise damaged from error
        if not _fits(description):
            raise damaged
        return description

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Turns what JSON has back into what the constructor takes."""
        batching = fields.get("batching")  # Older exports lack it.
        return {
            **fields,
            "signatures": _tuple(fields["signatures"]),
            "batching": None if batching is None else BatchingConfig(**batching),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslatorDescription(Description):
    """What an export of a translator says about itself.

    Attributes:
        vocabulary_size: V, the number of ids.
        max_source_length: The longest source, in tokens, the end token included.
        max_target_length: The longest target, likewise.
        decoding: How it searches, as in the run's configuration.
        shortlist: Pieces of the vocabulary that a batch is searched in; None for all of them.
        special_ids: `start`, `end`, `pad`, and those that are `suppressed`.
        tokenizer_sha256: Of the SentencePiece model that the ids belong to.
        source_label: What the source is: a language or any words.
        target_label: What the target is.
        tokenizer: The kind of its tokenizer; there is one so far.
        characters: Those that its tokenizer knows; None where that cannot be told, as in exports
            of versions that did not write it.
    """

    kind: str = "translator"
    vocabulary_size: int
    max_source_length: int
    max_target_length: int
    decoding: DecodingConfig
    special_ids: dict[str, Any]
    tokenizer_sha256: str
    source_label: str = ""
    target_label: str = ""
    shortlist: int | None = None
    tokenizer: str = "sentencepiece"
    characters: str | None = None

    @property
    def inexact(self) -> str:
        return super().inexact or ("" if self.shortlist is None else "has a shortlist")

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        fields = super()._from_fields(fields)
        if not isinstance(fields.get("characters", ""), str | None):
            raise TypeError("characters must be a string.")
        return {**fields, "decoding": DecodingConfig(**fields["decoding"])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModelDescription(Description):
    """What an export of a masked language model says about itself.

    Attributes:
        vocabulary_size: V, the number of ids.
        max_length: The longest text, in tokens, the end token included.
        top_k: How many fills it gives.
        mask_token: What stands in a text for a missing token.
        tokenizer_sha256: Of the SentencePiece model that the ids belong to.
        tokenizer: The kind of its tokenizer.
    """

    kind: str = "masked language model"
    vocabulary_size: int
    max_length: int
    top_k: int
    mask_token: str
    tokenizer_sha256: str
    tokenizer: str = "sentencepiece"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageClassifierDescription(Description):
    """What an export of an image classifier says about itself.

    Attributes:
        image_size: Height and width of what the model sees, in pixels.
        channels: Of an image: 1 for grey, 3 for red, green and blue.
        classes: The names of the classes, in the order of their numbers.
    """

    kind: str = "image classifier"
    image_size: tuple[int, int]
    channels: int
    classes: tuple[str, ...]

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        fields = super()._from_fields(fields)
        sizes = {name: _tuple(fields[name]) for name in ("image_size", "classes")}
        return {**fields, **sizes}


def _tuple(values: Any) -> tuple[Any, ...]:
    """Turns a list of JSON into a tuple; of a text it would make one of its letters."""
    if not isinstance(values, list):
        raise TypeError(f"a list was expected; got {values!r}.")
    return tuple(values)


def _fits(description: Any) -> bool:
    """Tells whether every field has its type, and those of configurations within it."""
    hints = get_type_hints(type(description))
    values = [(getattr(description, name), hint) for name, hint in hints.items()]
    return all(_is(value, hint) for value, hint in values)


def _is(value: Any, hint: Any) -> bool:
    """Tells whether a value has the type of a field; an int is a float."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, Union):
        return any(_is(value, each) for each in inner)
    if origin is tuple:
        if not isinstance(value, tuple) or (inner[-1] is not ... and len(value) != len(inner)):
            return False
        return all(_is(each, inner[0]) for each in value)
    if origin is dict:
        pairs = value.items() if isinstance(value, dict) else [(None, None)]
        return all(_is(key, inner[0]) and _is(each, inner[1]) for key, each in pairs)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, hint) and _fits(value)  # type: ignore[arg-type]
    return type(value) in ((int, float) if hint is float else (hint,))


def with_article(kind: str) -> str:
    """Puts "a" or "an" before a kind of model."""
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"
