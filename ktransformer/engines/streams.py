"""Translates streams: lines in batches of like length, and documents piece by piece."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ktransformer.engines.engine import Engine
from ktransformer.engines.translations import DocumentTranslation, Translation
from ktransformer.numbers import to_integer
from ktransformer.tasks.document_outputs import split_lines
from ktransformer.tasks.inputs import to_texts

_PIECE_BYTES = 1 << 13  # Of a document, about a hundred sentences.
BATCH_CHARACTERS = 1 << 14  # 32 lines of 512 characters: the most of a batch of long lines.


def translate_lines(
    engine: Engine, lines: Sequence[str], *, batch_size: int = 32, n_best: int = 1
) -> list[Translation]:
    """Translates lines in batches of like length, and gives them back in order.

    Args:
        engine: The engine.
        lines: The texts.
        batch_size: Texts translated at once.
        n_best: Translations of each; at most the engine's beam size.

    Returns:
        The translations of each line.
    """
    (translations,) = translate_blocks(engine, [lines], batch_size=batch_size, n_best=n_best)
    return translations


def translate_blocks(
    engine: Engine,
    blocks: Iterable[Sequence[str]],
    *,
    batch_size: int = 32,
    n_best: int = 1,
    on_batch: Callable[[list[str]], object] = lambda texts: None,
    translate: Callable[[list[str]], Sequence[Any]] | None = None,
) -> Iterator[list[Any]]:
    """Translates a stream of any length, of which it holds one block at a time.

    Within a block, lines of like length go together and `engine.concurrency` batches run at the
    same time. Neither changes the translation of a line, unless the export has a shortlist: a
    batch has one for all its lines.

    Args:
        engine: The engine.
        blocks: Lines that are there together. The larger a block, the more alike its batches.
        batch_size: Texts in a batch, which also holds at most `BATCH_CHARACTERS`.
        n_best: Translations of each; at most the engine's beam size.
        on_batch: Called in this thread with the texts of each batch that is done.
        translate: Translates a batch, such as `engine.translate_with_terms` with its terms, or
            `engine.translate_controlled` with its options, where samples also depend on the
            batches; None for `engine.translate_n_best`.

    Yields:
        For each block, the translations of each line.

    Raises:
        InputError: As `Engine.translate_n_best`, or `batch_size` is below 1; batches that have
            not begun are dropped.
    """
    batch_size = to_integer("batch_size", batch_size, least=1)
    translate = translate or functools.partial(engine.translate_n_best, n_best=n_best)
    with ThreadPoolExecutor(engine.concurrency) as pool:
        run = pool.map if engine.concurrency > 1 else map
        for lines in map(to_texts, blocks):
            # Longest first: at the end of a block no thread waits long for another.
            batches = list(batches_by_length(lines, batch_size))[::-1]
            texts = [[lines[i] for i in chosen] for chosen in batches]
            found: dict[int, Any] = {}
            results = run(translate, texts)
            for chosen, batch, translations in zip(batches, texts, results, strict=True):
                found.update(zip(chosen, translations, strict=True))
                on_batch(batch)
            yield [found[i] for i in range(len(lines))]


def translate_pieces(
    engine: Engine, blocks: Iterable[bytes], **options: Any
) -> Iterator[tuple[bytes, DocumentTranslation]]:
    """Translates a document of any length, of which it holds one block at a time.

    Args:
        engine: The engine; it translates `engine.concurrency` pieces at the same time.
        blocks: The document, cut behind line ends.
        **options: As for `Engine.translate_document`: a tag, terms, or options of the search.

    Yields:
        Each piece of the document, of whole lines, with its translation.

    Raises:
        InputError: As `Engine.translate_document`.
    """
    with ThreadPoolExecutor(engine.concurrency) as pool:
        run = pool.map if engine.concurrency > 1 else map
        for block in blocks:
            pieces = list(split_lines(block, _PIECE_BYTES))
            found = run(lambda piece: engine.translate_document([piece], **options)[0], pieces)
            yield from zip(pieces, found, strict=True)


def batches_by_length(lines: Sequence[str], batch_size: int) -> Iterator[list[int]]:
    """Yields the places of lines of like length, shortest first.

    A batch has `batch_size` lines, or fewer where these, padded to the longest of them, would have
    more than `BATCH_CHARACTERS`; a longer line is a batch of its own.
    """
    chosen: list[int] = []
    for i in sorted(range(len(lines)), key=lambda i: len(lines[i])):
        full = (len(chosen) + 1) * len(lines[i]) > BATCH_CHARACTERS
        if chosen and (full or len(chosen) == batch_size):
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen
