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
from ktransformer.fitting.vocabulary import Tokenizers, choose_vocabulary, train_tokenizers
from ktransformer.tasks.span_copier import COPIED_BY_DEFAULT, use_symbols
from ktransformer.text import (
    MixedBatches,
    ParallelFiles,
    ParallelText,
    ShardedBatches,
    Shards,
    SubwordSampler,
    TokenBatches,
    survey_files,
    write_shards,
)
from ktransformer.text.batches import EpochBatches

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
        self.fingerprint: dict[str, Any] = {"text": digest_text(text)}
        if config.data.copy_share:
            sources, targets = use_symbols(COPIED_BY_DEFAULT, text.sources, text.targets)
            text = dataclasses.replace(text, sources=sources, targets=targets)
        self._text, self.config = text.leave_out(length_bound(config)), config

    def encode(self, tokenizers: Tokenizers | None = None) -> tuple[Tokenizers, TokenBatches]:
        """Makes the batches with the tokenizers of both sides, or with some trained on the text.

        Raises:
            InputError: No pair is short enough, or the text has too few pieces for a tokenizer.
        """
        text, data = self._text, self.config.data
        if tokenizers is None:
            self.config = choose_vocabulary(self.config, text, len(text))
            tokenizers = train_tokenizers(text, self.config)
        samplers = None
        if data.subword_alpha is not None:
            source, target = (
                SubwordSampler(tokenizer, side, alpha=data.subword_alpha)
                for tokenizer, side in zip(tokenizers, (text.sources, text.targets), strict=True)
            )
            samplers = source, target
        batches = make_batches(
            "Training text", tokenizers, text, self.config, shuffle=True, samplers=samplers
        )
        self.config = self.config.replace({"batch_tokens": batches.batch_tokens})
        return tokenizers, batches


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
        InputError: `subword_alpha` or `copy_share` is set, there is no pair, or a file cannot be
            read.
    """

    def __init__(
        self, files: ParallelFiles, config: Config, checkpoints: Path, *, reuse: bool
    ) -> None:
        data = config.data
        for name in ("subword_alpha", "copy_share"):
            if getattr(data, name):
                raise InputError(
                    f"{name} needs the text in memory, and this one has more than "
                    f"shard_pairs={data.shard_pairs} pairs; raise shard_pairs or leave {name} out."
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

    def encode(self, tokenizers: Tokenizers | None = None) -> tuple[Tokenizers, ShardedBatches]:
        """Writes the shards with the tokenizers of both sides, or with some trained on a sample.

        Whole shards are reused.

        Raises:
            InputError: No pair is short enough, or the text has too few pieces for a tokenizer.
        """
        survey = self._survey
        if tokenizers is None:
            self.config = choose_vocabulary(self.config, survey.sample, survey.pairs)
        config = self.config
        about = {
            **self.fingerprint,
            "vocabulary_size": config.data.vocabulary_size,
            "split_digits": config.data.split_digits,
            "character_coverage": config.data.character_coverage,
            "max_length": config.model.max_length,
        }
        about |= {
            name: list(value)
            for name in ("symbols", "tags")
            if (value := getattr(config.data, name))
        }
        if not config.data.shared_vocabulary:
            about["source_vocabulary_size"] = config.data.source_vocabulary_size
        if tokenizers is not None:
            about |= digests_of(tokenizers)
        folder = self._checkpoints / SHARDS
        if not (self._reuse and _are_whole(folder, about)):
            remove_shards(self._checkpoints)
            self._write(folder, tokenizers, about)
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
        return shards.tokenizers(), batches

    def _write(self, path: Path, tokenizers: Tokenizers | None, about: dict[str, Any]) -> None:
        survey, config = self._survey, self.config
        if tokenizers is None:
            sample = dataclasses.replace(survey.sample, too_long=survey.surely_longer)
            tokenizers = train_tokenizers(sample, config)
        _log.info("Encoding %s pairs into %s.", f"{survey.pairs:,}", path)
        with new_folder(path) as folder:
            write_shards(
                folder,
                tokenizers[0],
                self._files,
                pairs=survey.pairs,
                shard_pairs=config.data.shard_pairs,
                max_length=config.model.max_length,
                bound=length_bound(config),
                about=about,
                target_tokenizer=tokenizers[1],
                on_block=_log_progress(survey.pairs),
            )


class MixedText:
    """Text that is mixed in, in memory: of a longer one a sample of `shard_pairs` pairs.

    Args:
        text: The pairs.
        config: The settings.

    Attributes:
        text: The pairs that are mixed in.
        fingerprint: The digest of all pairs.

    Raises:
        InputError: There is no pair, or a file cannot be read.
    """

    def __init__(self, text: ParallelText | ParallelFiles, config: Config) -> None:
        bound = length_bound(config)
        if isinstance(text, ParallelFiles):
            survey = survey_files(text, sample_pairs=config.data.shard_pairs, bound=bound)
            self.text, self.fingerprint = survey.sample, survey.digest
        else:
            self.text, self.fingerprint = text.leave_out(bound), digest_text(text)

    def mix_into(
        self, batches: EpochBatches, tokenizers: Tokenizers, config: Config
    ) -> MixedBatches:
        """Makes batches of both texts, of the training text all in every epoch.

        Raises:
            InputError: No pair is short enough.
        """
        others = make_batches("Text mixed in", tokenizers, self.text, config, shuffle=True)
        mixed = MixedBatches(
            batches, others, share=config.data.mix_share, seed=config.training.seed
        )
        _log.info(
            "An epoch mixes %s batches of the text with %s of the %s of the text mixed in.",
            f"{batches.steps_per_epoch:,}",
            f"{mixed.others_per_epoch:,}",
            f"{others.steps_per_epoch:,}",
        )
        return mixed


def digests_of(tokenizers: Tokenizers) -> dict[str, str]:
    """Returns the SHA-256 of the tokenizer, and that of the target's if it is another."""
    source, target = tokenizers
    digests = {"tokenizer": source.sha256}
    return digests if target is source else {**digests, "target_tokenizer": target.sha256}


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
