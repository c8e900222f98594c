"""Copies spans of the source into its translation: what a translator does around its search."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from ktransformer.text import BaseTokenizer
from ktransformer.text.copied_spans import CopiedSpans, take_out
from ktransformer.text.restored_spans import restore
from ktransformer.text.span_symbols import SYMBOLS
from ktransformer.text.spans import SpanFinder

_SYMBOL = re.compile("<c([0-9])>")


class SpanCopier:
    """Takes the spans of texts out before a translation, and puts them back after it.

    With a tokenizer that has the `SYMBOLS`, these stand for the spans in what the model reads and
    writes. Otherwise the spans are left out, and put back by their place in the source.

    Args:
        kinds: The kinds of spans; see `text.spans.SpanFinder`.
        tokenizer: The source's, whose other symbols are no spans.

    Raises:
        InputError: A kind is unknown.
    """

    def __init__(self, kinds: Sequence[str], tokenizer: BaseTokenizer) -> None:
        self._symbols = SYMBOLS if tokenizer.symbols.keys() >= {*SYMBOLS} else ()
        self._finder = SpanFinder(
            kinds,
            tokenizer.characters,
            except_for=_others(tokenizer.symbols),
            also=self._symbols,
        )

    @property
    def has_symbols(self) -> bool:
        """Whether symbols stand for the spans in what the model reads and writes."""
        return bool(self._symbols)

    def take_out(self, texts: tf.Tensor) -> tuple[tf.Tensor, CopiedSpans]:
        """Returns texts `[B]` as the model reads them, and their spans."""
        return take_out(self._finder, texts, self._symbols)

    def put_back(self, texts: tf.Tensor, copied: CopiedSpans) -> tf.Tensor:
        """Puts the spans of B texts into K translations of each: string `[B, K]`, alike."""
        # LiteRT asks for the shape of no string twice.
        shape = tf.shape(texts)
        restored = restore(
            self._finder,
            tf.reshape(texts, [-1]),
            copied.repeat(shape[1]),
            has_symbols=self.has_symbols,
        )
        return tf.reshape(restored, shape)


def use_symbols(
    kinds: Sequence[str],
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    symbols: Iterable[str] = (),
) -> tuple[list[str], list[str]]:
    """Replaces the spans of training pairs by symbols where both sides have the same spans.

    The symbols of a target have the numbers that the spans have in the source. A pair whose sides
    have other spans stays as it is.

    Args:
        kinds: The kinds of spans, without `unknown`.
        sources: The sources.
        targets: Their targets.
        symbols: Symbols of the tokenizer; those that are not `SYMBOLS` are no spans.

    Returns:
        Sources and targets.
    """
    finder = SpanFinder(kinds, except_for=_others(symbols), also=SYMBOLS)
    pairs: tuple[list[str], list[str]] = ([], [])
    for i in range(0, len(sources), 10_000):
        blocks = [list(lines[i : i + 10_000]) for lines in (sources, targets)]
        taken = [_take_out_lines(finder, block) for block in blocks]
        for row, lines in enumerate(zip(*blocks, strict=True)):
            (source, source_spans), (target, target_spans) = (side[row] for side in taken)
            if source_spans and sorted(source_spans) == sorted(target_spans):
                lines = source, _renumber(target, target_spans, source_spans)
            for side, line in zip(pairs, lines, strict=True):
                side.append(line)
    return pairs


def _others(symbols: Iterable[str]) -> list[str]:
    return [symbol for symbol in symbols if symbol not in SYMBOLS]


def _take_out_lines(finder: SpanFinder, lines: list[str]) -> list[tuple[str, list[bytes]]]:
    """Returns each line with symbols, and its spans."""
    texts, copied = take_out(finder, tf.constant(lines, tf.string), SYMBOLS)
    source = copied.source.numpy().astype(np.uint8).tobytes()
    places = zip(copied.starts.numpy(), copied.lengths.numpy(), strict=True)
    spans = [source[start : start + length] for start, length in places]
    splits = copied.row_splits.numpy()
    return [
        (text.decode(), spans[splits[i] : splits[i + 1]]) for i, text in enumerate(texts.numpy())
    ]


def _renumber(target: str, spans: list[bytes], source_spans: list[bytes]) -> str:
    """Gives the symbols of a target the numbers of its spans in the source."""
    places: dict[bytes, list[int]] = {}
    for number, span in enumerate(source_spans):
        places.setdefault(span, []).append(number)
    numbers = iter([places[span].pop(0) for span in spans])
    return _SYMBOL.sub(lambda _: SYMBOLS[next(numbers) % len(SYMBOLS)], target)
