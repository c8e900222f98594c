"""The same questions to two language models, a causal and a masked one, with their answers."""

from typing import Any, NamedTuple

import numpy as np

from ktransformer.text import END_ID, PAD_ID
from training.claims.language_scores import (
    continue_causally,
    continue_masked,
    fill_by_left,
    fill_by_mask,
    fill_by_scoring,
    log_likelihood,
    pair_sum_by_chain,
    pair_sum_by_masks,
    pseudo_log_likelihood,
)

WAYS = (
    "autoregressive, left side",
    "masked, as many updates",
    "masked, more updates",
    "autoregressive, every candidate",
)
"""To fill in a token."""
TEXTS = ("real", "autoregressive", "masked, one by one", "masked, all at once")
"""Continuations: what stood there, and what the models write."""


class Models(NamedTuple):
    """Language models, compiled: ids `[N, T]` to logits `[N, T, V]`."""

    causal: Any
    shorter: Any
    """The masked model, after as many updates as the causal one."""
    masked: Any
    """The masked model, after more."""
    mask_id: int
    """The last of the V ids."""


def score(models: Models, texts: np.ndarray) -> list[float]:
    """Returns the nats per token of texts `[N, T]`: by the chain rule, and hidden in turn."""
    tokens = (texts != PAD_ID).sum()
    found = (
        log_likelihood(models.causal, texts),
        pseudo_log_likelihood(models.masked, texts, models.mask_id),
    )
    return [float(-scores.sum() / tokens) for scores in found]


def fill(models: Models, texts: np.ndarray, scored: int, draw: np.random.Generator) -> list[float]:
    """Makes each token in turn a hole; returns the share that each of `WAYS` fills rightly.

    Args:
        models: Who fills.
        texts: Int array `[N, T]`.
        scored: In how many holes, drawn at random, every candidate is scored.
        draw: What they are drawn from.
    """
    rows, places = np.nonzero((texts != PAD_ID) & (texts != END_ID))
    some = draw.choice(len(rows), scored, replace=False)
    every = texts[rows]  # A text for each hole.
    answers = (
        (fill_by_left(models.causal, every, places), slice(None)),
        (fill_by_mask(models.shorter, every, places, models.mask_id), slice(None)),
        (fill_by_mask(models.masked, every, places, models.mask_id), slice(None)),
        (fill_by_scoring(models.causal, every[some], places[some], models.mask_id), some),
    )
    return [float((answer == texts[rows, places][holes]).mean()) for answer, holes in answers]


def sum_pairs(models: Models, texts: np.ndarray, draw: np.random.Generator) -> list[list[float]]:
    """Makes two neighbouring holes in each text, and sums over all pairs of ids in them.

    Returns:
        For each text the sum of the chain rule's probabilities, and that of exp(PLL).
    """
    lengths = (texts != PAD_ID).sum(axis=1)
    pairs = [
        (text, int(draw.integers(1, length - 2)))
        for text, length in zip(texts, lengths, strict=True)
    ]
    size = models.mask_id + 1
    return [
        [pair_sum_by_chain(models.causal, text, place, size) for text, place in pairs],
        [
            pair_sum_by_masks(models.masked, text, place, size, models.mask_id)
            for text, place in pairs
        ],
    ]


def judge_continuations(
    models: Models, judges: Models, texts: np.ndarray, begin: int, draw: np.random.Generator
) -> list[list[float]]:
    """Continues texts in each of `TEXTS`' ways and has other models judge them.

    Args:
        models: Who writes.
        judges: Who judges.
        texts: Int array `[N, T]` without padding or end.
        begin: Where the continuation begins.
        draw: What is drawn from.

    Returns:
        The perplexity of each continuation to the causal judge, and to the masked one.
    """
    mask_id = models.mask_id
    versions = (
        texts,
        continue_causally(models.causal, texts, begin, mask_id, draw),
        continue_masked(models.masked, texts, begin, mask_id, draw, at_once=False),
        continue_masked(models.masked, texts, begin, mask_id, draw, at_once=True),
    )
    found = (
        [log_likelihood(judges.causal, version) for version in versions],
        [pseudo_log_likelihood(judges.masked, version, mask_id) for version in versions],
    )
    return [[float(np.exp(-scores[:, begin:].mean())) for scores in judge] for judge in found]
