"""Lexical translation table: the likely target pieces of each source piece."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.special_ids import DEFAULT_SPECIAL_IDS, SpecialIds


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The likely translations of each piece, to restrict a search to part of the vocabulary.

    Attributes:
        translations: Int32, a row `[N]` for each source piece: its likely target pieces, most
            probable first, padded with the padding id.
        frequent: Int32 `[F]`: the most frequent target pieces, the most frequent first.
        special_ids: Those of the target; no special id is in the table or among the frequent.
        vocabulary_size: V, the number of ids of the target; None for as many as `translations` has
            rows.
    """

    translations: np.ndarray
    frequent: np.ndarray
    special_ids: SpecialIds = DEFAULT_SPECIAL_IDS
    vocabulary_size: int | None = None


def train_lexicon(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    vocabulary_size: int,
    *,
    special_ids: SpecialIds = DEFAULT_SPECIAL_IDS,
    source_vocabulary_size: int | None = None,
    source_special_ids: SpecialIds | None = None,
    best: int = 50,
    frequent: int = 100,
    iterations: int = 5,
) -> Lexicon:
    """Learns the likely translations of each piece from parallel text.

    IBM model 1 estimates the probabilities: each target token comes from one of the source tokens
    of its sentence, or from none, with uniform prior. Memory is about 70 bytes for each pair of a
    source and a target token of a sentence, 8 million in Multi30k: give a sample of a long text.

    Args:
        sources: Int arrays `[S]`, one a pair; special ids are left out.
        targets: Int arrays `[T]`, likewise.
        vocabulary_size: V, the number of ids of the target.
        special_ids: `tokenizer.special_ids` of the target.
        source_vocabulary_size: The number of ids of the source; None for V.
        source_special_ids: The source's special ids; None for those of the target.
        best: N, the most translations of a source piece.
        frequent: F, the number of most frequent target pieces, which every shortlist has.
        iterations: Iterations of expectation maximisation.

    Raises:
        InputError: The sides differ in number, no pair has a token on both, or a number is below
            its least: `best` and `iterations` 1, `frequent` 0.

    Example:
        ```python
        sources, targets = map(tokenizer.encode_lines, (text.sources, text.targets))
        lexicon = train_lexicon(sources, targets, tokenizer.vocabulary_size)
        tokenizer.pieces(lexicon.translations[sources[0][0]])
        ```

    Reference: Brown et al. 1993, section 4.1 (model 1, with the empty cept).
    """
    for name, value, least in (
        ("best", best, 1),
        ("frequent", frequent, 0),
        ("iterations", iterations, 1),
    ):
        if value < least:
            raise InputError(f"{name} must be at least {least}; got {name}={value}.")
    _check_sides(sources, targets)
    source_size = source_vocabulary_size or vocabulary_size
    source_special_ids = source_special_ids or special_ids
    of_sides = (source_special_ids, source_size), (special_ids, vocabulary_size)
    are_ordinary = [np.isin(np.arange(size), each.ordinary(size)) for each, size in of_sides]
    pairs = zip(sources, targets, strict=True)
    words = [
        [ids[ordinary[ids]] for ids, ordinary in zip(pair, are_ordinary, strict=True)]
        for pair in pairs
    ]
    words = [pair for pair in words if all(map(len, pair))]
    if not words:
        raise InputError("There is no pair with a token on both sides.")
    # Stands for no source piece: a translation adds words of its own.
    null = source_special_ids.pad
    table = estimate_translations(words, vocabulary_size, null=null, iterations=iterations)
    of_source, of_target = np.divmod(table.keys, vocabulary_size)
    known = of_source != null
    counts = np.bincount(
        np.concatenate([pair[1] for pair in words]).astype(np.int64), minlength=vocabulary_size
    )
    order = np.argsort(-counts, kind="stable")[:frequent]
    return Lexicon(
        translations=_best_of_each(
            of_source[known],
            of_target[known],
            table.probabilities[known],
            (source_size, best),
            special_ids.pad,
        ),
        frequent=order[counts[order] > 0].astype(np.int32),
        special_ids=special_ids,
        vocabulary_size=vocabulary_size,
    )


Prior = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From the place in the source, from 0, the source's length, and those of the target, to a weight;
the place of the null word is -1."""


def _equal(place: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return np.ones(place.shape)


@dataclasses.dataclass(frozen=True)
class TranslationTable:
    """The probability of a target id, given a source id, for all that occur in one pair.

    Attributes:
        keys: Int64 `[E]`, ascending: source id * `vocabulary_size` + target id.
        probabilities: Float64 `[E]`, likewise; those of a source id add up to 1.
        vocabulary_size: The number of ids of the target.
        prior: The prior of links that they were estimated with.
    """

    keys: np.ndarray
    probabilities: np.ndarray
    vocabulary_size: int
    prior: Prior = _equal

    def look_up(self, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the probabilities of target ids given source ids, which are broadcast; or 0."""
        keys = sources.astype(np.int64) * self.vocabulary_size + targets
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.probabilities[places], 0.0)


def estimate_translations(
    pairs: Sequence[Sequence[np.ndarray]],
    vocabulary_size: int,
    *,
    null: int,
    iterations: int = 5,
    priors: Sequence[Prior] = (),
) -> TranslationTable:
    """Estimates translation probabilities by expectation maximisation.

    Args:
        pairs: Int arrays `[S]` and `[T]`, without special ids, at least one of each.
        vocabulary_size: The number of ids of the target.
        null: An id that is in no source; it stands for the words that a translation adds.
        iterations: Iterations of expectation maximisation, of IBM model 1.
        priors: Weights of the links of a target token. The text is most probable under one of
            them, with which as many iterations follow.
    """
    flat_sources, source_lengths = _join([np.append(null, pair[0]) for pair in pairs])
    flat_targets, target_lengths = _join([pair[1] for pair in pairs])
    source, place, token = _links(flat_sources, source_lengths, target_lengths)
    keys, entry = np.unique(source * vocabulary_size + flat_targets[token], return_inverse=True)
    of_source = keys // vocabulary_size
    probabilities = _expectation_maximisation(entry, token, of_source, iterations)
    if not priors:
        return TranslationTable(keys, probabilities, vocabulary_size)
    starts = np.cumsum(target_lengths) - target_lengths
    of_token = (
        np.repeat(source_lengths - 1, target_lengths),
        np.arange(len(flat_targets)) - np.repeat(starts, target_lengths),
        np.repeat(target_lengths, target_lengths),
    )
    of_link = place - 1, *(each[token] for each in of_token)

    def log_likelihood(prior: Prior) -> float:
        return float(np.log(np.bincount(token, probabilities[entry] * prior(*of_link))).sum())

    best = max(priors, key=log_likelihood)
    probabilities = _expectation_maximisation(
        entry, token, of_source, iterations, best(*of_link), probabilities
    )
    return TranslationTable(keys, probabilities, vocabulary_size, best)


def _check_sides(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    if len(sources) != len(targets):
        raise InputError(
            "sources and targets must be as many; "
            f"got {len(sources)} sources and {len(targets)} targets."
        )


def _join(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all sequences joined, int64, and the length of each."""
    lengths = np.array([len(ids) for ids in sequences])
    return np.concatenate(sequences).astype(np.int64), lengths


def _links(
    sources: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links each target token with every source token of its sentence.

    Returns:
        The source id of each link, its place in its sentence, and the index of its target token
        among all target tokens; the links of a target token are adjacent.
    """
    starts = np.repeat(np.cumsum(source_lengths) - source_lengths, target_lengths)
    counts = np.repeat(source_lengths, target_lengths)  # Links of each target token.
    first = np.cumsum(counts) - counts
    token = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(token)) - first[token]
    return sources[starts[token] + place], place, token


def _expectation_maximisation(
    entry: np.ndarray,
    token: np.ndarray,
    of_source: np.ndarray,
    iterations: int,
    prior: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Estimates p(target | source) of every entry, a pair of ids that occurs in a sentence.

    Args:
        entry: The entry of each link.
        token: The target token of each link.
        of_source: The source id of each entry.
        iterations: Iterations of expectation maximisation.
        prior: The weight of each link; None for equal ones.
        start: The probabilities to begin with; None for equal ones.
    """
    probabilities = np.ones(len(of_source)) if start is None else start  # Uniform at first.
    for _ in range(iterations):
        weights = probabilities[entry] if prior is None else probabilities[entry] * prior
        weights /= np.bincount(token, weights)[token]
        counts = np.bincount(entry, weights, minlength=len(of_source))
        probabilities = counts / np.bincount(of_source, counts)[of_source]
    return probabilities


def _best_of_each(
    of_source: np.ndarray,
    of_target: np.ndarray,
    probabilities: np.ndarray,
    shape: tuple[int, int],
    pad: int,
) -> np.ndarray:
    """Returns the most probable targets of each source, padded: int32, one source a row."""
    order = np.lexsort((-probabilities, of_source))
    of_source, of_target = of_source[order], of_target[order]
    counts = np.bincount(of_source, minlength=shape[0])
    ranks = np.arange(len(of_source)) - (np.cumsum(counts) - counts)[of_source]
    chosen = ranks < shape[1]
    table = np.full(shape, pad, np.int32)
    table[of_source[chosen], ranks[chosen]] = of_target[chosen]
    return table
