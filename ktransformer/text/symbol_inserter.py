"""Puts the symbols of copied spans into training pairs, at places that correspond."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.buckets import JoinedIds
from ktransformer.text.lexicon import train_lexicon
from ktransformer.text.piece_model import SPACE
from ktransformer.text.span_symbols import SYMBOLS

if TYPE_CHECKING:
    from ktransformer.text.tokenizer import Tokenizer

_LEXICON_PAIRS = 10_000  # Pairs that the lexicon is learnt from.
_BEST = 2  # Translations of a piece that count as aligned.
_MOST = 4  # Places of a pair that get symbols.
_CLOSING, _SINGLE, _OPENING = range(3)  # The order of symbols at one place.
_Place = tuple[int, int, int, int]  # Start and end of a word on each side.
_Symbol = tuple[int, int, int]  # Where it goes on each side, and its order there.


class SymbolInserter:
    """Puts symbols into a share of encoded pairs, anew in every epoch.

    A pair that has symbols stays as it is. Another gets up to four times: a symbol before or behind
    two aligned words, or at the start or the end of both sides; a symbol in place of both words; or
    two symbols around them. Words are aligned if the first piece of each is a likely translation of
    the other's in both directions (IBM model 1), and of no other word of the pair.

    Args:
        tokenizers: The tokenizers of source and target, with the `SYMBOLS`.
        sources: Int arrays `[S]`, one a pair, the end token included.
        targets: Int arrays `[T]`, likewise.
        share: Share of the pairs that get symbols, in (0, 1].

    Raises:
        InputError: A tokenizer lacks the symbols.

    Reference: Brown et al. 1993, section 4.1 (the alignment); Post et al. 2019, "An Exploration of
        Placeholding in Neural Machine Translation" (symbols with numbers, there for spans that
        occur in the training text).
    """

    def __init__(
        self,
        tokenizers: "tuple[Tokenizer, Tokenizer]",
        sources: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        share: float,
    ) -> None:
        for tokenizer in tokenizers:
            if not tokenizer.symbols.keys() >= {*SYMBOLS}:
                raise InputError(
                    "copy_share needs a tokenizer with the symbols <c0> to <c9>; `ktransformer "
                    "extend RUN --copy-symbols` adds them to a run."
                )
        self._share = share
        self._symbols = [np.array([t.symbols[s] for s in SYMBOLS], np.int32) for t in tokenizers]
        self._tags = np.array([tokenizers[0].symbols[tag] for tag in tokenizers[0].tags], np.int32)
        self._begins, self._continues = zip(*map(_kinds_of_pieces, tokenizers), strict=True)
        step = -(-len(sources) // _LEXICON_PAIRS)
        sides = sources[::step], targets[::step]
        self._tables = [_likely(*tokenizers, *sides), _likely(*tokenizers[::-1], *sides[::-1])]

    def insert(
        self, sources: JoinedIds, targets: JoinedIds, random: np.random.Generator
    ) -> tuple[JoinedIds, JoinedIds]:
        """Returns all pairs, some of them with symbols."""
        chosen = random.random(len(sources)) < self._share
        sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for i, is_chosen in enumerate(chosen):
            source, target = (s.flat[s.starts[i] : s.starts[i + 1]] for s in (sources, targets))
            if is_chosen and not np.isin(source, self._symbols[0]).any():
                source, target = self._insert_into(source, target, random)
            sides[0].append(source)
            sides[1].append(target)
        return JoinedIds.join(sides[0]), JoinedIds.join(sides[1])

    def _insert_into(
        self, source: np.ndarray, target: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        places = self._align(source, target)
        count = min(int(random.integers(1, _MOST + 1)), len(places))
        symbols: list[_Symbol] = []
        removed: list[_Place] = []
        for i in random.choice(len(places), count, replace=False):
            start, end, target_start, target_end = place = places[i]
            kind = random.integers(0, 4) if end > start else 0
            if kind < 2:
                behind = int(random.integers(0, 2)) * (end > start)
                at = (end, target_end) if behind else (start, target_start)
                symbols.append((*at, _CLOSING if behind else _SINGLE))
            elif kind == 2:
                symbols.append((start, target_start, _SINGLE))
                removed.append(place)
            else:
                symbols.append((start, target_start, _OPENING))
                symbols.append((end, target_end, _CLOSING))
        symbols.sort(key=lambda symbol: (symbol[0], symbol[2]))
        numbers = range(len(symbols))
        in_target = sorted(numbers, key=lambda n: (symbols[n][1], symbols[n][2]))
        return (
            self._write(source, 0, [(symbols[n][0], n) for n in numbers], [p[:2] for p in removed]),
            self._write(
                target, 1, [(symbols[n][1], n) for n in in_target], [p[2:] for p in removed]
            ),
        )

    def _write(
        self,
        ids: np.ndarray,
        side: int,
        symbols: list[tuple[int, int]],
        removed: list[tuple[int, int]],
    ) -> np.ndarray:
        kept = np.full(len(ids), True)
        for start, end in removed:
            kept[start:end] = False
        parts, done = [], 0
        for at, number in symbols:
            parts += [ids[done:at][kept[done:at]], self._symbols[side][[number % len(SYMBOLS)]]]
            done = at
        return np.concatenate([*parts, ids[done:][kept[done:]]])

    def _align(self, source: np.ndarray, target: np.ndarray) -> list[_Place]:
        """Returns the pairs of aligned words, and the starts and ends of both sides."""
        starts = [
            np.flatnonzero(b[ids]) for b, ids in zip(self._begins, (source, target), strict=True)
        ]
        first, second = source[starts[0]], target[starts[1]]
        likely = (self._tables[0][first][:, None, :] == second[None, :, None]).any(-1)
        likely &= (self._tables[1][second][None, :, :] == first[:, None, None]).any(-1)
        single = likely & (likely.sum(0, keepdims=True) == 1) & (likely.sum(1, keepdims=True) == 1)
        found = [
            (int(i), self._word_end(0, source, i), int(j), self._word_end(1, target, j))
            for i, j in zip(
                *(s[n] for s, n in zip(starts, np.nonzero(single), strict=True)), strict=True
            )
        ]
        begin = int(np.isin(source[:1], self._tags).sum())
        ends = (len(source) - 1, len(target) - 1)
        found += [(begin, begin, 0, 0), (ends[0], ends[0], ends[1], ends[1])]
        if min(ends) > 1 and not self._is_word(0, source[-2]) and not self._is_word(1, target[-2]):
            found.append((ends[0] - 1, ends[0] - 1, ends[1] - 1, ends[1] - 1))
        return found

    def _is_word(self, side: int, piece: int) -> bool:
        return bool(self._begins[side][piece] or self._continues[side][piece])

    def _word_end(self, side: int, ids: np.ndarray, start: int) -> int:
        end = int(start) + 1
        while self._continues[side][ids[end]]:  # The end token does not.
            end += 1
        return end


def _likely(
    source: "Tokenizer",
    target: "Tokenizer",
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
) -> np.ndarray:
    """Returns the likely translations of each piece: int32 `[V, _BEST]`, padded."""
    return train_lexicon(
        sources,
        targets,
        target.vocabulary_size,
        special_ids=target.special_ids,
        source_vocabulary_size=source.vocabulary_size,
        source_special_ids=source.special_ids,
        best=_BEST,
        frequent=0,
    ).translations


def _kinds_of_pieces(tokenizer: "Tokenizer") -> tuple[np.ndarray, np.ndarray]:
    """Returns which pieces begin a word, and which continue one: boolean `[V]` each."""
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    ordinary = np.isin(np.arange(len(pieces)), tokenizer.ordinary_ids)
    ordinary[list(tokenizer.symbols.values())] = False
    begins = np.array([p[:1] == SPACE and p[1:2].isalnum() for p in pieces]) & ordinary
    continues = np.array([p[:1].isalnum() for p in pieces]) & ordinary
    return begins, continues
