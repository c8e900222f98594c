"""Training text, in memory or streamed from files, and how it is encoded."""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.files import new_folder
from ktransformer.fitting.compiling import count_devices
from ktransformer.fitting.defaults import choose_batch_tokens
from ktransformer.fitting.folder import SHARDS, remove_shards
from ktransformer.fitting.pair_batches import length_bound, log_pairs, make_batches
from ktransformer.fitting.vocabulary import choose_vocabulary, train_tokenizer
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

_log = logging.getLogger(__name__)
_PROGRESS_SECONDS = 10.0


class InMemoryText:
    """Training text in memory.

    Args:
        text: The pairs.
        config: The settings.

    Attributes:
        fingerprint: The digest of the text, by name.
        config: `config`; after `encode` with the settings that were chosen from the text.
    """

    def __init__(self, text: ParallelText, config: Config) -> None:
        self._text, self.config = text.leave_out(length_bound(config)), config
        self.fingerprint: dict[str, Any] = {"text": digest_text(text)}

    def encode(self, tokenizer: Tokenizer | None = None) -> tuple[Tokenizer, TokenBatches]:
        """Makes the batches with a tokenizer, or with one trained on the text.

        Raises:
            InputError: No pair is short enough, or the text has too few pieces for a tokenizer.
        """
        text, data = self._text, self.config.data
        if tokenizer is None:
            self.config = choose_vocabulary(self.config, text, len(text))
            tokenizer = train_tokenizer(text, self.config)
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
    """Training text on disk, of which `shard_pairs` pairs are in memory at a time.

    The constructor reads the files once.

    Args:
        files: The pairs.
        config: The settings.
        checkpoints: Folder of the training; the encoded text is written there.
        reuse: Whether to reuse encoded text that is there, whole and of the same text and
            settings.

    Attributes:
        fingerprint: The digest of the text and the size of its shards, by name.
        config: `config`; after `encode` with the settings that were chosen from the text.

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
        self._survey = survey_files(
            files, sample_pairs=data.shard_pairs, bound=length_bound(config)
        )
        self.fingerprint: dict[str, Any] = {
            "text": self._survey.digest,
            "shard_pairs": data.shard_pairs,
        }

    def encode(self, tokenizer: Tokenizer | None = None) -> tuple[Tokenizer, ShardedBatches]:
        """Writes the shards with a tokenizer, or with one trained on a sample; reuses whole ones.

        Raises:
            InputError: No pair is short enough, or the text has too few pieces for a tokenizer.
        """
        survey = self._survey
        if tokenizer is None:
            self.config = choose_vocabulary(self.config, survey.sample, survey.pairs)
        config = self.config
        about = {
            **self.fingerprint,
            "vocabulary_size": config.data.vocabulary_size,
            "split_digits": config.data.split_digits,
            "character_coverage": config.data.character_coverage,
            "max_length": config.model.max_length,
        }
        if tokenizer is not None:
            about["tokenizer"] = tokenizer.sha256
        folder = self._checkpoints / SHARDS
        if not (self._reuse and _are_whole(folder, about)):
            remove_shards(self._checkpoints)
            self._write(folder, tokenizer, about)
        shards = Shards.open(folder)
        log_pairs("Training text", shards.pairs, survey.empty, shards.too_long, config)
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

    def _write(self, path: Path, tokenizer: Tokenizer | None, about: dict[str, Any]) -> None:
        survey, config = self._survey, self.config
        if tokenizer is None:
            sample = dataclasses.replace(survey.sample, too_long=survey.surely_longer)
            tokenizer = train_tokenizer(sample, config)
        _log.info("Encoding %s pairs into %s.", f"{survey.pairs:,}", path)
        with new_folder(path) as folder:
            write_shards(
                folder,
                tokenizer,
                self._files,
                pairs=survey.pairs,
                shard_pairs=config.data.shard_pairs,
                max_length=config.model.max_length,
                bound=length_bound(config),
                about=about,
                on_block=_log_progress(survey.pairs),
            )


def digest_text(text: ParallelText) -> str:
    """Returns the SHA-256 of all pairs in their order, in hexadecimal."""
    digest = hashlib.sha256()
    for line in (*text.sources, *text.targets):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _are_whole(folder: Path, about: dict[str, Any]) -> bool:
    """Returns whether a folder has undamaged shards that were written with `about`."""
    if not folder.exists():
        return False
    try:
        shards = Shards.open(folder)
        shards.check()
    except InputError as error:
        _log.warning("%s", error)
        return False
    return shards.about == about


def _log_progress(pairs: int) -> Callable[[int], None]:
    """Returns a function that logs every few seconds how many of the pairs are encoded."""
    reported = time.monotonic()

    def report(done: int) -> None:
        nonlocal reported
        if time.monotonic() - reported >= _PROGRESS_SECONDS:
            reported = time.monotonic()
            _log.info("%s of %s pairs.", f"{done:,}", f"{pairs:,}")

    return report
