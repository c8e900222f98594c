"""The metadata of an export, common to all kinds of model."""

import dataclasses
from typing import ClassVar, Self

from ktransformer._version import __version__
from ktransformer.config import BatchingConfig, CompilationConfig
from ktransformer.errors import InputError, check_unicode
from ktransformer.files.checksums import description_text, parse_json
from ktransformer.files.json_fields import from_json_fields
from ktransformer.tasks.registry import find_task, registered_tasks, with_article

FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)  # 1 has no checksums.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """The metadata of an export, as JSON in or beside it.

    A kind of model subclasses it with fields of its own, which are read back by their types: see
    `ktransformer.files.json_fields`. A field that is added later needs a default, so that older
    exports can be read.

    Attributes:
        kind: The kind of model, as its task is registered.
        signatures: The names of its signatures.
        quantization: How its weights are stored: `none`, `float16`, `int8_weights` (a SavedModel,
            which computes in float32), `dynamic_int8` (a .tflite) or one of CTranslate2's.
        batch_size: The number of inputs at once; None for any number.
        batching: How it joins the texts of concurrent requests; None where it doesn't.
        compilation: In which shapes XLA compiles its searches; None for none.
        format_version: Of this description and of the signatures.
        ktransformer: The version that wrote it.
        files: The SHA-256 of every other file of the export, by relative path.
        sha256: Of the description's own file, with this field as `checksums.UNSEALED`.
        STATEFUL: Signatures that take the outputs of another, such as a cache. A warm-up
            leaves them out.
    """

    STATEFUL: ClassVar[frozenset[str]] = frozenset()

    kind: str = "model"
    signatures: tuple[str, ...]
    quantization: str = "none"
    batch_size: int | None = None
    batching: BatchingConfig | None = None
    compilation: CompilationConfig | None = None
    format_version: int = FORMAT_VERSION
    ktransformer: str = __version__
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    sha256: str = ""

    def __post_init__(self) -> None:
        """Checks that labels and names of classes have a UTF-8 form, before any work is done."""
        for name, value in vars(self).items():
            for text in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(text, str):
                    check_unicode(name, text)

    @property
    def inexact(self) -> str:
        """Why the export may differ from its model by design, such as "is quantised"; or ""."""
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
        """Reads the JSON of `to_json`; `Description` itself reads that of any registered kind.

        Args:
            text: The JSON.
            origin: The export that it describes, for the error messages.

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
        described: type[Description] = cls
        if cls is Description or kind != cls.kind:  # Else no task, nor TensorFlow, is imported.
            task = registered_tasks().get(kind)
            if cls is not Description and not (task and issubclass(task.description_class, cls)):
                raise InputError(f"{origin} is {with_article(kind)}, not {with_article(cls.kind)}.")
            described = find_task(kind, origin).description_class
        if version not in _READABLE:
            raise InputError(
                f"{origin} was written by ktransformer {writer}, in another format than this "
                f"version ({__version__}) reads: export it again."
            )
        try:
            description = from_json_fields(described, fields)
        except InputError as error:
            raise InputError(f"{origin} is damaged: {error}") from error
        except (TypeError, KeyError, ValueError) as error:
            raise damaged from error
        if not isinstance(description, cls):
            raise damaged
        return description
