"""A statistical aligner of token ids: which source token each target token comes from."""

import functools
from collections.abc import Iterable
from typing import Self

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.lexicon import TranslationTable, estimate_translations
from ktransformer.text.special_ids import SpecialIds

_NULL_SHARE = 0.08  # p0 of Dyer et al. 2013, as in fast_align.
_SHARPNESS = (1e-3, 2.0, 4.0, 8.0)  # Values of lambda; the first favours no link.


class Aligner:
    """Aligns pairs of ids by two lexicons, one a direction, that have to agree.

    Each lexicon is IBM model 1 with a prior that favours links near the diagonal, as far as the
    text shows that. A link's probability is the geometric mean of its posteriors in both
    directions. The rest of a target token's probability is on the source's end token, which stands
    for no token; means that add up to more than 1, as those of a token from several source tokens,
    are divided by their sum. The end token of the target has no link.

    Args:
        forward: The probability of a target id, given a source id, with the prior of a link.
        backward: The other way round.
        special_ids: Those of the source and of the target.

    Reference: Dyer et al. 2013, equations 1 and 2; Liang et al. 2006, section 3.2, where
        the product of both posteriors stands in place of their geometric mean.
    """

    def __init__(
        self,
        forward: TranslationTable,
        backward: TranslationTable,
        special_ids: tuple[SpecialIds, SpecialIds],
    ) -> None:
        self._forward, self._backward = forward, backward
        self._special_ids = special_ids

    @classmethod
    def train(
        cls,
        pairs: Iterable[tuple[np.ndarray, np.ndarray]],
        vocabulary_sizes: tuple[int, int],
        special_ids: tuple[SpecialIds, SpecialIds],
        *,
        iterations: int = 5,
    ) -> Self:
        """Learns both lexicons from pairs; the same pairs give the same ones.

        Args:
            pairs: Int arrays `[S]` and `[T]`, ended and maybe padded.
            vocabulary_sizes: The numbers of ids of the source and of the target.
            special_ids: The special ids of both.
            iterations: Iterations of expectation maximisation.

        Raises:
            InputError: No pair has a token on both sides.
        """
        words = [
            tuple(ids[_is_word(ids, each)] for ids, each in zip(pair, special_ids, strict=True))
            for pair in pairs
        ]
        words = [pair for pair in words if all(map(len, pair))]
        if not words:
            raise InputError("There is no pair with a token on both sides.")
        source_size, target_size = vocabulary_sizes
        priors = [functools.partial(_diagonal, sharpness=value) for value in _SHARPNESS]
        forward, backward = (
            estimate_translations(
                each, size, null=special.pad, iterations=iterations, priors=priors
            )
            for each, size, special in (
                (words, target_size, special_ids[0]),
                ([pair[::-1] for pair in words], source_size, special_ids[1]),
            )
        )
        return cls(forward, backward, special_ids)

    def align(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Returns the probability that a target token comes from a source token.

        Args:
            source: Int array `[B, S]`, ended and padded.
            target: Int array `[B, T]`, likewise.

        Returns:
            Float32 `[B, T, S]`: a row adds up to 1, or to 0 at the end token and at padding.
        """
        sides = source, target
        real = [_is_word(ids, each) for ids, each in zip(sides, self._special_ids, strict=True)]
        forward = _posterior(self._forward, *sides, *real, null=self._special_ids[0].pad)
        backward = _posterior(
            self._backward, *sides[::-1], *real[::-1], null=self._special_ids[1].pad
        )
        links = np.sqrt(forward * backward.transpose(0, 2, 1))
        links /= np.maximum(links.sum(axis=2, keepdims=True), 1)
        rest = np.maximum(1 - links.sum(axis=2, keepdims=True), 0)
        links += rest * (source == self._special_ids[0].end)[:, None]
        return (links * real[1][:, :, None]).astype(np.float32)


def _is_word(ids: np.ndarray, special: SpecialIds) -> np.ndarray:
    return (ids != special.pad) & (ids != special.end) & (ids != special.start)


def _posterior(
    table: TranslationTable,
    given: np.ndarray,
    made: np.ndarray,
    given_real: np.ndarray,
    made_real: np.ndarray,
    *,
    null: int,
) -> np.ndarray:
    """Returns the probability that each id of `made` `[B, T]` comes from each of `given` `[B, S]`.

    The rows of `[B, T, S]` add up to less than 1 by the probability of the null word.
    """
    places = [np.maximum(np.cumsum(real, axis=1) - 1, 0) for real in (given_real, made_real)]
    lengths = [real.sum(axis=1)[:, None, None] for real in (given_real, made_real)]
    prior = table.prior(places[0][:, None], lengths[0], places[1][:, :, None], lengths[1])
    joint = table.look_up(given[:, None], made[:, :, None]) * prior * given_real[:, None]
    total = joint.sum(axis=2, keepdims=True)
    total += _NULL_SHARE * table.look_up(np.array(null), made)[:, :, None]
    posterior: np.ndarray = joint / np.maximum(total, 1e-30)
    return posterior


def _diagonal(
    place: np.ndarray,
    length: np.ndarray,
    target_place: np.ndarray,
    target_length: np.ndarray,
    *,
    sharpness: float,
) -> np.ndarray:
    """Returns the prior of a link: the nearer to the diagonal, the greater; -1 is the null word."""
    at = (target_place + 0.5) / np.maximum(target_length, 1)
    distance = np.abs((place + 0.5) / np.maximum(length, 1) - at)
    # The sum over all places, as an integral.
    sides = 2 - np.exp(-sharpness * at) - np.exp(-sharpness * (1 - at))
    total = np.maximum(length, 1) * sides / sharpness
    near: np.ndarray = (1 - _NULL_SHARE) * np.exp(-sharpness * distance) / total
    return np.where(place < 0, _NULL_SHARE, near)
