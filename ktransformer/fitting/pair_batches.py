"""Batches of text pairs in memory, and a log of the pairs that are left out."""

import logging
from collections.abc import Sequence

import numpy as np

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import choose_batch_tokens
from ktransformer.fitting.vocabulary import Tokenizers
from ktransformer.text import ParallelText, SubwordSampler, TokenBatches
from ktransformer.text.cleaning import Cleaning, describe_counts
from ktransformer.text.line_limits import LengthBound
from ktransformer.text.span_symbols import SYMBOLS
from ktransformer.text.symbol_inserter import SymbolInserter

_log = logging.getLogger(__name__)
_MANY_LEFT_OUT = 0.2  # Share of the pairs; more than this is a warning.


def make_batches(
    name: str,
    tokenizers: Tokenizers,
    text: ParallelText,
    config: Config,
    *,
    shuffle: bool,
    samplers: tuple[SubwordSampler, SubwordSampler] | None = None,
    devices: int = 1,
) -> TokenBatches:
    """Encodes text in memory and logs which pairs are left out.

    Args:
        name: Name of the text in the log.
        tokenizers: The tokenizers of the source and of the target.
        text: The pairs.
        config: The settings; a null `batch_tokens` is chosen from the text.
        shuffle: Whether each epoch has another order.
        samplers: For subword sampling, of the sources and of the targets.
        devices: How many devices share every batch.

    Raises:
        InputError: No pair is short enough, or a tokenizer lacks the symbols of `copy_share`.
    """
    max_length = config.model.max_length
    text = text.leave_out(length_bound(config))
    if not text:
        raise InputError(f"No pair has at most max_length={max_length} tokens.")
    sources, targets = (
        tokenizer.encode_lines(lines, max_length=max_length)
        for tokenizer, lines in zip(tokenizers, (text.sources, text.targets), strict=True)
    )
    inserter = None
    if shuffle and config.data.copy_share:
        inserter = SymbolInserter(tokenizers, sources, targets, config.data.copy_share)
    tokens = _count_tokens(sources, targets, max_length)
    batches = TokenBatches(
        sources,
        targets,
        batch_tokens=choose_batch_tokens(config.data, tokens, max_length),
        max_length=max_length,
        bucket_step=config.data.bucket_step,
        shuffle=shuffle,
        seed=config.training.seed,
        samplers=samplers,
        inserter=inserter,
        copies=config.training.copies,
        row_multiple=devices,
        special_ids=tokenizers[1].special_ids,
        weights=text.weights,
    )
    too_long = text.too_long + batches.too_long
    log_pairs(name, len(text) - batches.too_long, text.empty, too_long, config)
    return batches


def length_bound(config: Config) -> LengthBound:
    """Returns the test for lines that are longer than `max_length` with any tokenizer."""
    data = config.data
    symbols = (*data.symbols, *data.tags, *(SYMBOLS if data.copy_share else ()))
    return LengthBound(config.model.max_length, data.split_digits, symbols)


def cleaning_of(config: Config) -> Cleaning:
    """Returns the rules of the settings by which training text is cleaned."""
    data = config.data
    return Cleaning(data.clean, data.clean_ratio, data.clean_script, data.clean_digits)


def log_dropped(name: str, dropped: dict[str, int]) -> None:
    """Logs how many pairs of a text were dropped by each rule, and for a weight of 0."""
    if dropped:
        _log.info("%s: dropped by cleaning: %s.", name, describe_counts(dropped))


def log_pairs(name: str, pairs: int, empty: int, too_long: int, config: Config) -> None:
    """Logs how many pairs of a text are used and how many are left out; a warning if many are."""
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


def _count_tokens(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], max_length: int
) -> int:
    """Returns the tokens of the longer sides of all pairs that are short enough."""
    pairs = zip(sources, targets, strict=True)
    lengths = (max(len(source), len(target)) for source, target in pairs)
    return sum(length for length in lengths if length <= max_length)
