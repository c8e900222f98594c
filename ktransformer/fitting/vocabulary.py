"""The tokenizers of a training, and the sizes of their vocabularies."""

import collections
import itertools
import logging

from ktransformer.config import Config, DataConfig
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import choose_vocabulary_size
from ktransformer.text import ParallelText, Tokenizer
from ktransformer.text.span_symbols import SYMBOLS

_log = logging.getLogger(__name__)
_SMALL_SHARE = 0.5  # Of the requested vocabulary: fewer pieces cause a warning.
Tokenizers = tuple[Tokenizer, Tokenizer]
"""The tokenizers of the source and of the target: one object twice for a shared vocabulary."""


def choose_vocabulary(config: Config, text: ParallelText, pairs: int) -> Config:
    """Sets null sizes of vocabularies, for `pairs` pairs of which `text` is a sample."""
    if not config.data.shared_vocabulary and config.data.source_vocabulary_size is None:
        config = config.replace({"source_vocabulary_size": config.data.vocabulary_size})
    for name, lines in _texts(config.data, text).items():
        if getattr(config.data, name) is None:
            counts = collections.Counter(itertools.chain.from_iterable(lines))
            characters = round(counts.total() * pairs / max(len(text), 1))
            size = choose_vocabulary_size(DataConfig(), characters, len(counts))
            config = config.replace({name: size})
    return config


def _texts(data: DataConfig, text: ParallelText) -> dict[str, list[str]]:
    """Returns the text of each vocabulary, by the setting of its size."""
    if data.shared_vocabulary:
        return {"vocabulary_size": [*text.sources, *text.targets]}
    return {"source_vocabulary_size": text.sources, "vocabulary_size": text.targets}


def train_tokenizers(text: ParallelText, config: Config) -> Tokenizers:
    """Trains one tokenizer on both sides of a text, or one on each; see `shared_vocabulary`.

    Warns if a vocabulary comes out small.

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
    texts = _texts(config.data, text)
    tokenizers = [_train(lines, name, config.data) for name, lines in texts.items()]
    return tokenizers[0], tokenizers[-1]


def _train(lines: list[str], name: str, data: DataConfig) -> Tokenizer:
    requested = getattr(data, name)
    if requested is None:
        raise ValueError(f"{name} must be chosen; got None.")
    tokenizer = Tokenizer.train(
        lines,
        requested,
        split_digits=data.split_digits,
        character_coverage=data.character_coverage,
        symbols=tuple(dict.fromkeys((*data.symbols, *(SYMBOLS if data.copy_share else ())))),
        tags=data.tags if data.shared_vocabulary or name != "vocabulary_size" else (),
    )
    if tokenizer.vocabulary_size < _SMALL_SHARE * requested:
        _log.warning(
            "The text gave a vocabulary of %s pieces, fewer than %s=%s: it "
            "is small, or holds little but repetitions or names.",
            f"{tokenizer.vocabulary_size:,}",
            name,
            requested,
        )
    return tokenizer
