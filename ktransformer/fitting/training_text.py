"""Training text, in memory or streamed from files, and how it is encoded."""

import contextlib
import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.files import new_folder
from ktransformer.fitting.defaults import choose_batch_tokens
from ktransformer.fitting.fingerprint import digests_of
from ktransformer.fitting.folder import SHARDS, remove_shards
from ktransformer.fitting.pair_batches import (
    cleaning_of,
    length_bound,
    log_dropped,
    log_pairs,
    make_batches,
)
from ktransformer.fitting.vocabulary import Tokenizers, choose_vocabulary, train_tokenizers
from ktransformer.runtime.ray_cluster import joined_cluster, map_on_cluster
from ktransformer.tasks.span_copier import use_symbols
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
from ktransformer.text.corpus import interleave
from ktransformer.text.shard_writing import BlockMap
from ktransformer.text.span_symbols import COPIED_BY_DEFAULT

_log = logging.getLogger(__name__)
_PROGRESS_SECONDS = 10.0


class InMemoryText:
    """Training text in memory.

    Args:
        text: The pairs.
        config: The settings.
        devices: How many devices share every batch.

    Attributes:
        fingerprint: The digest of the text, by name.
        dropped: See `ParallelText.dropped`; after cleaning by the settings.
        config: `config`; after `encode` with the settings that were chosen from the text.
    """

    def __init__(self, text: ParallelText, config: Config, *, devices: int = 1) -> None:
        if config.data.clean:
            text = text.cleaned(cleaning_of(config))
        log_dropped("Training text", text.dropped)
        self.dropped = text.dropped
        self.fingerprint: dict[str, Any] = {"text": digest_text(text)}
        text = with_span_symbols(text, config)
        self._text, self.config = text.leave_out(length_bound(config)), config
        self._devices = devices

    @property
    def pairs(self) -> int:
        """The number of pairs that are not surely too long."""
        return len(self._text)

    def encode(
        self, tokenizers: Tokenizers | None = None, others: Sequence[ParallelText] = ()
    ) -> tuple[Tokenizers, TokenBatches]:
        """Makes the batches with the tokenizers of both sides, or with some trained on the text.

        Args:
            tokenizers: The tokenizers; None to train them.
            others: Further texts to train them on.

        Raises:
            InputError: No pair is short enough, or the text has too few pieces for a tokenizer.
        """
        text = self._text
        if tokenizers is None:
            every = interleave([text, *others]) if others else text
            self.config = choose_vocabulary(self.config, every, len(every))
            tokenizers = train_tokenizers(every, self.config)
        batches = _batches("Training text", tokenizers, text, self.config, self._devices)
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
        devices: How many devices share every batch.
        encode_on: The address of a Ray cluster that encodes the text, see `joined_cluster`; None
            for this process. The shards are the same.

    Attributes:
        fingerprint: The digest of the text and the size of its shards, by name.
        dropped: See `ParallelText.dropped`; after cleaning by the settings.
        config: `config`; after `encode` with the settings that were chosen from the text.

    Raises:
        InputError: `subword_alpha` or `copy_share` is set, there is no pair, or a file cannot be
            read.
    """

    def __init__(
        self,
        files: ParallelFiles,
        config: Config,
        checkpoints: Path,
        *,
        reuse: bool,
        devices: int = 1,
        encode_on: str | None = None,
    ) -> None:
        data = config.data
        for name in ("subword_alpha", "copy_share"):
            if getattr(data, name):
                raise InputError(
                    f"{name} needs the text in memory, and this one has more than "
                    f"shard_pairs={data.shard_pairs} pairs; raise shard_pairs or leave {name} out."
                )
        if data.clean:
            files = files.cleaned(cleaning_of(config))
        self._files, self.config = files, config
        self._checkpoints, self._reuse, self._devices = checkpoints, reuse, devices
        self._encode_on = encode_on
        self._survey = survey_files(
            files, sample_pairs=data.shard_pairs, bound=length_bound(config)
        )
        self.dropped = self._survey.dropped
        log_dropped("Training text", self.dropped)
        self.fingerprint: dict[str, Any] = {
            "text": self._survey.digest,
            "shard_pairs": data.shard_pairs,
        }

    @property
    def pairs(self) -> int:
        """The number of pairs, before those that are too long are left out."""
        return self._survey.pairs

    def encode(
        self, tokenizers: Tokenizers | None = None, others: Sequence[ParallelText] = ()
    ) -> tuple[Tokenizers, ShardedBatches]:
        """Writes the shards with the tokenizers of both sides, or with some trained on a sample.

        Whole shards are reused.

        Args:
            tokenizers: The tokenizers; None to train them.
            others: Further texts to train them on.

        Raises:
            InputError: No pair is short enough, or the text has too few pieces for a tokenizer.
        """
        survey = self._survey
        sample = dataclasses.replace(survey.sample, too_long=survey.surely_longer)
        every = interleave([sample, *others]) if others else sample
        if tokenizers is None:
            pairs = survey.pairs + sum(map(len, others))
            self.config = choose_vocabulary(self.config, every, pairs)
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
        if others:
            about["others"] = [digest_text(text) for text in others]
        if tokenizers is not None:
            about |= digests_of(tokenizers)
        folder = self._checkpoints / SHARDS
        if not (self._reuse and _are_whole(folder, about)):
            remove_shards(self._checkpoints)
            self._write(folder, tokenizers or train_tokenizers(every, config), about)
        shards = Shards.open(folder)
        log_pairs("Training text", shards.pairs, survey.empty, shards.too_long, config)
        batches = ShardedBatches(
            shards,
            batch_tokens=choose_batch_tokens(config.data, shards.tokens, config.model.max_length),
            bucket_step=config.data.bucket_step,
            seed=config.training.seed,
            copies=config.training.copies,
            row_multiple=self._devices,
        )
        self.config = config.replace({"batch_tokens": batches.batch_tokens})
        return shards.tokenizers(), batches

    def _write(self, path: Path, tokenizers: Tokenizers, about: dict[str, Any]) -> None:
        survey, config = self._survey, self.config
        _log.info("Encoding %s pairs into %s.", f"{survey.pairs:,}", path)
        with contextlib.ExitStack() as stack:
            map_blocks: BlockMap = map
            if self._encode_on is not None:
                stack.enter_context(joined_cluster(self._encode_on))
                map_blocks = map_on_cluster
            folder = stack.enter_context(new_folder(path))
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
                weighted=survey.weighted,
                map_blocks=map_blocks,
            )


class MixedText:
    """Another text of a mixture, in memory: of a longer one a sample of `shard_pairs` pairs.

    Args:
        text: The pairs.
        config: The settings.

    Attributes:
        text: The pairs that are in memory, with symbols for spans; see `with_span_symbols`.
        fingerprint: The digest of all pairs; with the size of the sample where one is drawn.

    Raises:
        InputError: There is no pair, or a file cannot be read.
    """

    def __init__(self, text: ParallelText | ParallelFiles, config: Config) -> None:
        bound = length_bound(config)
        if config.data.clean:
            text = text.cleaned(cleaning_of(config))
        if isinstance(text, ParallelFiles):
            survey = survey_files(
                text,
                sample_pairs=config.data.shard_pairs,
                bound=None if config.data.copy_share else bound,  # Symbols make pairs shorter.
            )
            pairs, self.fingerprint = survey.sample, survey.digest
            self.dropped = survey.dropped
            if len(pairs) < survey.pairs - survey.surely_longer:
                self.fingerprint += f" {len(pairs)}"
                _log.info(
                    "Of the %s pairs of %s, %s are drawn: only the first text of a mixture is "
                    "streamed.",
                    f"{survey.pairs:,}",
                    text.source_paths[0],
                    f"{len(pairs):,}",
                )
        else:
            pairs, self.fingerprint = text, digest_text(text)
            self.dropped = text.dropped
        self.text = with_span_symbols(pairs, config).leave_out(bound)
        log_dropped("Text mixed in", self.dropped)


def mix_batches(
    batches: EpochBatches,
    others: Sequence[MixedText],
    tokenizers: Tokenizers,
    config: Config,
    weights: Sequence[float] | None,
    *,
    devices: int = 1,
) -> MixedBatches:
    """Makes batches of a mixture; see `MixedBatches`.

    Args:
        batches: The batches of the first text.
        others: The other texts.
        tokenizers: Those of the source and of the target.
        config: The settings.
        weights: Those of all texts.
        devices: How many devices share every batch.

    Raises:
        InputError: No pair of a text is short enough.
    """
    names = ["Text mixed in"] if len(others) == 1 else [f"Text {i + 2}" for i in range(len(others))]
    texts = [
        batches,
        *(
            _batches(name, tokenizers, other.text, config, devices)
            for name, other in zip(names, others, strict=True)
        ),
    ]
    mixed = MixedBatches(texts, weights=weights, seed=config.training.seed)
    counts = zip(mixed.batches_per_epoch, texts, strict=True)
    _log.info(
        "An epoch mixes %s batches.",
        ", ".join(f"{count:,} of the {text.steps_per_epoch:,}" for count, text in counts),
    )
    return mixed


def _batches(
    name: str, tokenizers: Tokenizers, text: ParallelText, config: Config, devices: int
) -> TokenBatches:
    """Encodes a text in memory, with a sampler of segmentations where one is asked for."""
    samplers, alpha = None, config.data.subword_alpha
    if alpha is not None:
        source, target = (
            SubwordSampler(tokenizer, side, alpha=alpha)
            for tokenizer, side in zip(tokenizers, (text.sources, text.targets), strict=True)
        )
        samplers = source, target
    return make_batches(
        name, tokenizers, text, config, shuffle=True, samplers=samplers, devices=devices
    )


def with_span_symbols(text: ParallelText, config: Config) -> ParallelText:
    """Returns the text as a model reads and writes it: with `copy_share`, symbols stand for spans.

    See `use_symbols`; symbols and tags of the settings are no spans.
    """
    data = config.data
    if not data.copy_share:
        return text
    sources, targets = use_symbols(
        COPIED_BY_DEFAULT, text.sources, text.targets, symbols=(*data.symbols, *data.tags)
    )
    return dataclasses.replace(text, sources=sources, targets=targets)


def digest_text(text: ParallelText) -> str:
    """Returns the SHA-256 of all pairs in their order, and of their weights, in hexadecimal."""
    digest = hashlib.sha256()
    for line in (*text.sources, *text.targets):
        digest.update(line.encode() + b"\n")
    if text.weights is not None:
        digest.update(np.array(text.weights, "<f8").tobytes())
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
