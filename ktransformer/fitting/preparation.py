"""Training text, in memory or streamed: its tokenizer and its batches."""

import collections
import dataclasses
import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.files import new_folder
from ktransformer.fitting.compiling import count_devices
from ktransformer.fitting.defaults import choose_batch_tokens, choose_vocabulary_size
from ktransformer.fitting.folder import SHARDS, remove_shards
from ktransformer.text import (
    ParallelFiles,
    ParallelText,
    ShardedBatches,
    Shards,
    SubwordSampler,
    TokenBatches,
    Tokenizer,
    survey_files,
    write_shards,
)
from ktransformer.text.line_limits import LengthBound

_log = logging.getLogger(__name__)
_PROGRESS_SECONDS = 10.0
# Shares at which a warning is due: of the vocabulary asked for, and of the pairs.
_SMALL_VOCABULARY, _MANY_LEFT_OUT = 0.5, 0.2


class InMemoryText:
    """Training text in memory.

    Args:
        text: The pairs.
        config: What to train.

    Attributes:
        about: Which text it is, as JSON can hold it.
        config: `config`, after `encode` with what was chosen from the text.
    """

    def __init__(self, text: ParallelText, config: Config) -> None:
        self._text, self.config = text.leave_out(_bound(config)), config
        self.about: dict[str, Any] = {"text": digest_text(text)}

    def encode(self) -> tuple[Tokenizer, TokenBatches]:
        """Trains a tokenizer and makes the batches."""
        text, data = self._text, self.config.data
        self.config = _choose_vocabulary(self.config, text, len(text))
        tokenizer = _train_tokenizer(text, self.config)
        samplers = None
        if data.subword_alpha is not None:
            source, target = (
                SubwordSampler(tokenizer, side, alpha=data.subword_alpha)
                for side in (text.sources, text.targets)
            )
            samplers = source, target
        batches = make_batches(
            "Training text", tokenizer, text, self.config, shuffle=True, samplers=samplers
        )
        self.config = self.config.replace({"batch_tokens": batches.batch_tokens})
        return tokenizer, batches


class StreamedText:
    """Training text on the disk; `shard_pairs` of its pairs are in memory at a time.

    Making one reads the files once.

    Args:
        files: The pairs.
        config: What to train.
        checkpoints: Folder of the training; the encoded text goes into it, in place of another's.
        reuse: Whether encoded text that is there, whole and of the same text and settings, is
            taken as it is.

    Attributes:
        about: Which text it is, and in what shards, as JSON can hold it.
        config: `config`, after `encode` with what was chosen from the text.

    Raises:
        InputError: `subword_alpha` is set, there is no pair, or a file cannot be read.
    """

    def __init__(
        self, files: ParallelFiles, config: Config, checkpoints: Path, *, reuse: bool
    ) -> None:
        data = config.data
        if data.subword_alpha is not None:
            raise InputError(
                "subword_alpha needs the text in memory, and this one has more than "
                f"shard_pairs={data.shard_pairs} pairs; raise shard_pairs or set subword_alpha to "
                "null."
            )
        self._files, self.config = files, config
        self._checkpoints, self._reuse = checkpoints, reuse
        self._survey = survey_files(files, sample_pairs=data.shard_pairs, bound=_bound(config))
        self.about: dict[str, Any] = {"text": self._survey.digest, "shard_pairs": data.shard_pairs}

    def encode(self) -> tuple[Tokenizer, ShardedBatches]:
        """Trains a tokenizer on a sample, writes the shards, unless they are there."""
        self.config = config = _choose_vocabulary(
            self.config, self._survey.sample, self._survey.pairs
        )
        about = {
            **self.about,
            "vocabulary_size": config.data.vocabulary_size,
            "split_digits": config.data.split_digits,
            "character_coverage": config.data.character_coverage,
            "max_length": config.model.max_length,
        }
        folder = self._checkpoints / SHARDS
        if not (self._reuse and _are_whole(folder, about)):
            remove_shards(self._checkpoints)
            self._write(folder, about)
        shards = Shards.open(folder)
        _log_pairs("Training text", shards.pairs, self._survey.empty, shards.too_long, config)
        batches = ShardedBatches(
            shards,
            batch_tokens=choose_batch_tokens(config.data, shards.tokens, config.model.max_length),
            bucket_step=config.data.bucket_step,
            seed=config.training.seed,
            copies=config.training.copies,
            row_multiple=count_devices(),
        )
        self.config = config.replace({"batch_tokens": batches.batch_tokens})
        return shards.tokenizer(), batches

    def _write(self, path: Path, about: dict[str, Any]) -> None:
        survey, config = self._survey, self.config
        sample = dataclasses.replace(survey.sample, too_long=survey.surely_longer)
        tokenizer = _train_tokenizer(sample, config)
        _log.info("Encoding %s pairs into %s.", f"{survey.pairs:,}", path)
        with new_folder(path) as folder:
            write_shards(
                folder,
                tokenizer,
                self._files,
                pairs=survey.pairs,
                shard_pairs=config.data.shard_pairs,
                max_length=config.model.max_length,
                bound=_bound(config),
                about=about,
                on_block=_report(survey.pairs),
            )


def digest_text(text: ParallelText) -> str:
    """Returns the SHA-256 of all pairs in their order, in hexadecimal."""
    digest = hashlib.sha256()
    for line in (*text.sources, *text.targets):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def make_batches(
    name: str,
    tokenizer: Tokenizer,
    text: ParallelText,
    config: Config,
    *,
    shuffle: bool,
    samplers: tuple[SubwordSampler, SubwordSampler] | None = None,
) -> TokenBatches:
    """Encodes text in memory and says, under `name`, what is left out of it.

    Where `batch_tokens` is null, it is chosen from this text.
    """
    max_length = config.model.max_length
    text = text.leave_out(_bound(config))
    if not text:
        raise InputError(f"No pair has at most max_length={max_length} tokens.")
    sources = tokenizer.encode_lines(text.sources, max_length=max_length)
    targets = tokenizer.encode_lines(text.targets, max_length=max_length)
    tokens = count_tokens(sources, targets, max_length)
    batches = TokenBatches(
        sources,
        targets,
        batch_tokens=choose_batch_tokens(config.data, tokens, max_length),
        max_length=config.model.max_length,
        bucket_step=config.data.bucket_step,
        shuffle=shuffle,
        seed=config.training.seed,
        samplers=samplers,
        copies=config.training.copies,
        row_multiple=count_devices(),
    )
    too_long = text.too_long + batches.too_long
    _log_pairs(name, len(text) - batches.too_long, text.empty, too_long, config)
    return batches


def count_tokens(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], max_length: int
) -> int:
    """Returns the tokens of the longer sides of all pairs that are short enough."""
    pairs = zip(sources, targets, strict=True)
    lengths = (max(len(source), len(target)) for source, target in pairs)
    return sum(length for length in lengths if length <= max_length)


def _choose_vocabulary(config: Config, text: ParallelText, pairs: int) -> Config:
    """Sets a null `vocabulary_size` for `pairs` pairs, of which `text` is a sample."""
    if config.data.vocabulary_size is not None:
        return config
    counts = collections.Counter(itertools.chain.from_iterable((*text.sources, *text.targets)))
    size = choose_vocabulary_size(
        config.data, round(counts.total() * pairs / max(len(text), 1)), len(counts)
    )
    return config.replace({"vocabulary_size": size})


def _bound(config: Config) -> LengthBound:
    return LengthBound(config.model.max_length, config.data.split_digits)


def _train_tokenizer(text: ParallelText, config: Config) -> Tokenizer:
    """Trains a tokenizer, and says what stays out of its text and how small it came out."""
    if text.too_long:
        _log.info(
            "%s pairs are over %s tokens with any tokenizer, and stay out of its text.",
            f"{text.too_long:,}",
            config.model.max_length,
        )
    if not text:
        raise InputError(f"No pair has at most max_length={config.model.max_length} tokens.")
    asked = config.data.vocabulary_size
    if asked is None:
        raise ValueError("vocabulary_size must be chosen; got None.")
    tokenizer = Tokenizer.train(
        [*text.sources, *text.targets],
        asked,
        split_digits=config.data.split_digits,
        character_coverage=config.data.character_coverage,
    )
    if tokenizer.vocabulary_size < _SMALL_VOCABULARY * asked:
        _log.warning(
            "The text gave a vocabulary of %s pieces where vocabulary_size=%s was asked for: it "
            "is small, or holds little but repetitions or names.",
            f"{tokenizer.vocabulary_size:,}",
            asked,
        )
    return tokenizer


def _are_whole(folder: Path, about: dict[str, Any]) -> bool:
    """Tells whether the shards in a folder are what `about` says, and undamaged."""
    if not folder.exists():
        return False
    try:
        shards = Shards.open(folder)
        shards.check()
    except InputError as error:
        _log.warning("%s", error)
        return False
    return shards.about == about


def _report(pairs: int) -> Callable[[int], None]:
    """Returns a function that logs now and then how many of the pairs are done."""
    reported = time.monotonic()

    def report(done: int) -> None:
        nonlocal reported
        if time.monotonic() - reported >= _PROGRESS_SECONDS:
            reported = time.monotonic()
            _log.info("%s of %s pairs.", f"{done:,}", f"{pairs:,}")

    return report


def _log_pairs(name: str, pairs: int, empty: int, too_long: int, config: Config) -> None:
    whole = pairs + empty + too_long
    few = pairs < (1 - _MANY_LEFT_OUT) * whole
    _log.log(
        logging.WARNING if few else logging.INFO,
        "%s: %s pairs; left out: %s with an empty side, %s over %s tokens%s.",
        name,
        f"{pairs:,}",
        f"{empty:,}",
        f"{too_long:,}",
        config.model.max_length,
        f": {1 - pairs / whole:.1%} of {whole:,} pairs" if few else "",
    )
