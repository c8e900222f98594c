"""Mixtures: several corpora, each with a weight and a tag, as a YAML file lists them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransformer.config import Config
from ktransformer.config.yaml_file import read_yaml
from ktransformer.errors import InputError, brief, did_you_mean
from ktransformer.text import PairFiles, ParallelFiles, ParallelText, read_parallel
from ktransformer.text.corpus import interleave, open_files

if TYPE_CHECKING:
    from ktransformer.fitting.vocabulary import Tokenizers

_FILES = ("source", "target", "pairs", "validation_source", "validation_target")
_KEYS = (*_FILES, "weight", "tag")


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Training texts that an epoch has batches of; see `MixedBatches`.

    Attributes:
        texts: The texts, tags included. Files of the first are streamed; of the others a sample of
            `shard_pairs` pairs is in memory.
        weights: The weight of each text; None for all pairs of each in every epoch.
    """

    texts: Sequence[ParallelText | ParallelFiles]
    weights: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One corpus of a mixture.

    Attributes:
        source: Files of the sources, whose lines follow each other.
        target: Files of their translations, line for line.
        validation_source: Files to validate on; none for no validation of this corpus.
        validation_target: Their translations.
        weight: Its weight, above 0; None, for all corpora alike, for all of its pairs.
        tag: A symbol that is put before every source; None for none.
        pairs: Instead of source and target, TSV files; see `PairFiles`.

    Raises:
        InputError: The weight is not above 0, a tag is empty or has white space in it, or files of
            a side are missing.
    """

    source: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    validation_source: tuple[str, ...] = ()
    validation_target: tuple[str, ...] = ()
    weight: float | None = None
    tag: str | None = None
    pairs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sides = bool(self.source), bool(self.target)
        if sides != (not self.pairs, not self.pairs):
            given = {name: list(getattr(self, name)) for name in ("source", "target", "pairs")}
            words = ", ".join(f"{name}={files}" for name, files in given.items() if files)
            raise InputError(
                f"A corpus must have source and target, or pairs; got {words or 'none'}."
            )
        if bool(self.validation_source) != bool(self.validation_target):
            raise InputError("validation_source and validation_target go together; got one.")
        if self.weight is not None and not 0 < self.weight < float("inf"):
            raise InputError(f"weight must be above 0 and finite; got weight={self.weight}.")
        if self.tag is not None and len(self.tag.split()) != 1:
            raise InputError(f"tag must be a text without white space; got tag={self.tag!r}.")

    def files(self) -> ParallelFiles:
        """Returns its training text, tags included."""
        if self.pairs:
            return PairFiles(self.pairs, tag=self.tag)
        return ParallelFiles(self.source, self.target, tag=self.tag)


def read_mixture(path: str | Path) -> list[Corpus]:
    """Reads the corpora of a YAML file, a list of mappings with the fields of `Corpus`.

    A file may stand for a list of one. Paths are relative to the working directory, as on a command
    line.

    Raises:
        InputError: The file cannot be read, has another form, an unknown key or a value that does
            not fit; or some corpora have a weight and others none.
    """
    content = read_yaml(path)
    if not isinstance(content, list) or not content:
        raise InputError(f"{path} must be a list of corpora; got {brief(content)}.")
    corpora = []
    for number, entry in enumerate(content, start=1):
        try:
            corpora.append(_read_corpus(entry))
        except InputError as error:
            raise InputError(f"{path}, corpus {number}: {error}") from error
    weighted = sum(corpus.weight is not None for corpus in corpora)
    if 0 < weighted < len(corpora):
        raise InputError(
            f"{path}: all corpora must have a weight or none; got {weighted} of {len(corpora)}."
        )
    return corpora


def _read_corpus(entry: Any) -> Corpus:
    if not isinstance(entry, dict):
        raise InputError(f"a corpus must be settings (key: value); got {brief(entry)}.")
    for key in entry:
        if key not in _KEYS:
            raise InputError(
                f"Unknown key {key!r}; known are {', '.join(_KEYS)}." + did_you_mean(key, _KEYS)
            )
    values = {**dict.fromkeys(_FILES), **entry}
    files = {name: _files(name, values[name]) for name in _FILES}
    weight, tag = values.get("weight"), values.get("tag")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float)):
        raise InputError(f"weight must be a number; got {brief(weight)}.")
    if tag is not None and not isinstance(tag, str):
        raise InputError(f"tag must be a text; got {brief(tag)}.")
    return Corpus(**files, weight=weight, tag=tag)


def _files(name: str, value: Any) -> tuple[str, ...]:
    files = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(file, str) for file in files):
        raise InputError(f"{name} must be a file or a list of files; got {brief(value)}.")
    return tuple(files)


def add_tags(config: Config, corpora: Sequence[Corpus], tokenizers: "Tokenizers | None") -> Config:
    """Adds the tags of corpora to the settings.

    Args:
        config: The settings.
        corpora: The corpora.
        tokenizers: Those of the run that the training starts from; None where they are trained.

    Raises:
        InputError: The source's tokenizer lacks a tag.
    """
    tags = dict.fromkeys(corpus.tag for corpus in corpora if corpus.tag is not None)
    if tokenizers is None:
        new = [tag for tag in tags if tag not in config.data.symbols]
        return config.replace({"tags": [*dict.fromkeys([*config.data.tags, *new])]})
    for tag in tags:
        if tag not in tokenizers[0].symbols:
            known = ", ".join(tokenizers[0].symbols) or "none"
            raise InputError(
                "tag must be a symbol of the run that the training starts from, which has "
                f"{known}; got {tag!r}: add it with `ktransformer extend --tags`."
            )
    return config


def open_corpora(
    corpora: Sequence[Corpus], *, max_pairs: int
) -> tuple[Mixture, ParallelText | None]:
    """Opens the training texts of corpora, and reads their validation text.

    Args:
        corpora: The corpora.
        max_pairs: The most pairs of a text in memory; see `open_parallel`.

    Returns:
        The mixture, and the pairs to validate on, the first of each corpus first; None without.

    Raises:
        InputError: A file cannot be read, or see `open_parallel`.
    """
    texts = [open_files(corpus.files(), max_pairs=max_pairs) for corpus in corpora]
    validation = [
        read_parallel(corpus.validation_source, corpus.validation_target, tag=corpus.tag)
        for corpus in corpora
        if corpus.validation_source
    ]
    weights = [corpus.weight for corpus in corpora if corpus.weight is not None]
    return Mixture(texts, weights or None), interleave(validation) if validation else None
