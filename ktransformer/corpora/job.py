"""A corpus's translation: the model, the format and the options that decide every byte of it."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ktransformer.engines import Engine, load_engine
from ktransformer.errors import InputError, check_unicode
from ktransformer.files.checksums import file_sha256, folder_checksums
from ktransformer.numbers import to_integer

FORMATS = ("text", "jsonl", "parquet")
SHARD_BYTES = 1 << 19
"""Bytes of text at which a shard ends: about 10,000 short lines, seconds to minutes of one core."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is translated and how. Two equal jobs on one input give the same bytes.

    Attributes:
        model: The model's path, the same on every node.
        format: One of `FORMATS`.
        field: The field or column to translate; None for text.
        output_field: The field or column that the translation is written to; None for text.
        adapter, beam_size, length_penalty, copy, tag: As for `load_engine`.
        n_best: Translations of each text.
        batch_size: Texts of a batch.
        document: Whether each file of text, or each text of another format, is a document; see
            `Engine.translate_document`.
        sentences: Whether each text is translated sentence by sentence.
        terms: A terminology; None for none.
        controls: Options of `Engine.translate_controlled`; None for none.
        shard_bytes: Bytes of text at which a shard ends.
    """

    model: str
    format: str = "text"
    field: str | None = None
    output_field: str | None = None
    adapter: str | None = None
    beam_size: int | None = None
    length_penalty: float | None = None
    copy: tuple[str, ...] | None = None
    tag: str | None = None
    n_best: int = 1
    batch_size: int = 32
    document: bool = False
    sentences: bool = False
    terms: tuple[tuple[str, str], ...] | None = None
    controls: Mapping[str, Any] | None = None
    shard_bytes: int = SHARD_BYTES

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(f"format must be one of {', '.join(FORMATS)}; got {self.format!r}.")
        for name in ("field", "output_field"):
            if (getattr(self, name) is None) != (self.format == "text"):
                wanted = "goes with jsonl and parquet" if self.format == "text" else "must be given"
                raise InputError(f"{name} {wanted}; the format is {self.format}.")
            check_unicode(name, getattr(self, name) or "")
        if self.field is not None and self.field == self.output_field:
            raise InputError(f"output_field must be another than field; got {self.field!r}.")
        for name in ("n_best", "batch_size", "shard_bytes"):
            to_integer(name, getattr(self, name), least=1)
        if self.by_sentence and self.n_best > 1:
            raise InputError("Texts that are translated by sentence have one translation each.")
        if self.terms is not None and (self.n_best > 1 or self.controls):
            raise InputError("A terminology takes no n_best or options of the search.")

    @property
    def by_sentence(self) -> bool:
        """Whether a text may have several sentences, each of which is translated by itself."""
        return self.document or self.sentences

    def options(self) -> dict[str, Any]:
        """Returns everything but the paths of the model and the adapter, as JSON has it."""
        fields = {**dataclasses.asdict(self), "model": None, "adapter": None}
        options: dict[str, Any] = json.loads(json.dumps(fields))
        return options

    def checksums(self) -> dict[str, str | None]:
        """Returns the SHA-256 of the model and of the adapter.

        Raises:
            InputError: There is no such file or folder.
        """
        paths = {"model": self.model, "adapter": self.adapter}
        return {name: None if path is None else path_sha256(path) for name, path in paths.items()}

    def open(self, concurrency: int) -> Engine:
        """Opens the engine, for batches on one thread each.

        Args:
            concurrency: Batches at the same time.

        Raises:
            InputError: As `load_engine`.
        """
        return load_engine(
            self.model,
            adapter=self.adapter,
            beam_size=self.beam_size,
            length_penalty=self.length_penalty,
            copy=self.copy,
            tag=self.tag,
            threads=1,
            concurrency=concurrency,
        )


def find_translation(
    engine: Engine,
    *,
    n_best: int = 1,
    terms: Iterable[tuple[str, str]] | None = None,
    controls: Mapping[str, Any] | None = None,
) -> Callable[[list[str]], Any]:
    """Returns the translation of a batch of texts.

    Raises:
        InputError: The engine has no such translation.
    """
    if terms is not None:
        terms = list(terms)
        engine.translate_with_terms([], terms)
        return functools.partial(engine.translate_with_terms, terms=terms)
    if controls:
        engine.translate_controlled([], n_best=n_best, **controls)
        return functools.partial(engine.translate_controlled, n_best=n_best, **controls)
    engine.find_signature(n_best)
    return functools.partial(engine.translate_n_best, n_best=n_best)


def path_sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file, or one over those of all files of a folder.

    Raises:
        InputError: There is no such file or folder, or it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    try:
        if path.is_file():
            return file_sha256(path)
        return hashlib.sha256(json.dumps(folder_checksums(path)).encode()).hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
