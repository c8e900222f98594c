"""The tokenizer of a training, and the size of its vocabulary."""

import collections
import itertools
import logging

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import choose_vocabulary_size
from ktransformer.text import ParallelText, Tokenizer

_log = logging.getLogger(__name__)
_SMALL_SHARE = 0.5  # Of the requested vocabulary: fewer pieces cause a warning.


def choose_vocabulary(config: Config, text: ParallelText, pairs: int) -> Config:
    """Sets `vocabulary_size` if it is null, for `pairs` pairs of which `text` is a sample."""
    if config.data.vocabulary_size is not None:
        return config
    counts = collections.Counter(itertools.chain.from_iterable((*text.sources, *text.targets)))
    size = choose_vocabulary_size(
        config.data, round(counts.total() * pairs / max(len(text), 1)), len(counts)
    )
    return config.replace({"vocabulary_size": size})


def train_tokenizer(text: ParallelText, config: Config) -> Tokenizer:
    """Trains a tokenizer on both sides of a text; warns if its vocabulary comes out small.

    Raises:
        InputError: There is no pair, or the text has too few pieces.
    """
    if text.too_long:
        _log.info(
            "%s pairs are over %s tokens with any tokenizer, and stay out of its text.",
            f"{text.too_long:,}",
            config.model.max_length,
        )
    if not text:
        raise InputError(f"No pair has at most max_length={config.model.max_length} tokens.")
    requested = config.data.vocabulary_size
    if requested is None:
        raise ValueError("vocabulary_size must be chosen; got None.")
    tokenizer = Tokenizer.train(
        [*text.sources, *text.targets],
        requested,
        split_digits=config.data.split_digits,
        character_coverage=config.data.character_coverage,
    )
    if tokenizer.vocabulary_size < _SMALL_SHARE * requested:
        _log.warning(
            "The text gave a vocabulary of %s pieces where vocabulary_size=%s was asked for: it "
            "is small, or holds little but repetitions or names.",
            f"{tokenizer.vocabulary_size:,}",
            requested,
        )
    return tokenizer
