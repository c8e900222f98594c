"""Measurements of a causal and a masked language model on the same texts; claim 5."""

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

FILLERS = (
    "autoregressive, left side",
    "masked, as many updates",
    "masked, more updates",
    "autoregressive, every candidate",
)
"""Methods that predict a hidden token."""
TEXTS = ("real", "autoregressive", "masked, one by one", "masked, all at once")
"""Continuations: of the corpus, and of the models."""


class Models(NamedTuple):
    """Compiled language models: ids `[N, T]` -> logits `[N, T, V]`."""

    causal: Any
    early_masked: Any
    """The masked model after as many updates as the causal model."""
    masked: Any
    """The masked model after more updates."""
    mask_id: int
    """Id of the mask, V - 1."""


def nats_per_token(models: Models, texts: np.ndarray) -> list[float]:
    """Returns the nats per token of `[N, T]`: by the chain rule, and by masking each token."""
    tokens = (texts != PAD_ID).sum()
    found = (
        log_likelihood(models.causal, texts),
        pseudo_log_likelihood(models.masked, texts, models.mask_id),
    )
    return [float(-scores.sum() / tokens) for scores in found]


def fill_accuracies(
    models: Models, texts: np.ndarray, scored: int, draw: np.random.Generator
) -> list[float]:
    """Hides each token in turn; returns the accuracy of each of `FILLERS`.

    Args:
        models: The models.
        texts: Int array `[N, T]`.
        scored: Number of tokens, drawn at random, for the method that scores every candidate.
        draw: Source of random numbers.
    """
    rows, positions = np.nonzero((texts != PAD_ID) & (texts != END_ID))
    some = draw.choice(len(rows), scored, replace=False)
    every = texts[rows]  # One text per hidden token.
    answers = (
        (fill_by_left(models.causal, every, positions), slice(None)),
        (fill_by_mask(models.early_masked, every, positions, models.mask_id), slice(None)),
        (fill_by_mask(models.masked, every, positions, models.mask_id), slice(None)),
        (fill_by_scoring(models.causal, every[some], positions[some], models.mask_id), some),
    )
    return [float((answer == texts[rows, positions][chosen]).mean()) for answer, chosen in answers]


def pair_sums(models: Models, texts: np.ndarray, draw: np.random.Generator) -> list[list[float]]:
    """Hides two neighbouring tokens of each text, and sums over all pairs of ids.

    Returns:
        For each text the sum of the chain rule's probabilities, and the sum of exp(PLL).
    """
    lengths = (texts != PAD_ID).sum(axis=1)
    pairs = [
        (text, int(draw.integers(1, length - 2)))
        for text, length in zip(texts, lengths, strict=True)
    ]
    size = models.mask_id + 1
    return [
        [pair_sum_by_chain(models.causal, text, position, size) for text, position in pairs],
        [
            pair_sum_by_masks(models.masked, text, position, size, models.mask_id)
            for text, position in pairs
        ],
    ]


def continuation_perplexities(
    models: Models, judges: Models, texts: np.ndarray, prompt_length: int, draw: np.random.Generator
) -> list[list[float]]:
    """Continues texts by each of `TEXTS`, and scores the continuations with other models.

    Args:
        models: Models that generate.
        judges: Models that score.
        texts: Int array `[N, T]` without padding or end.
        prompt_length: Tokens of each text before the continuation.
        draw: Source of random numbers.

    Returns:
        The perplexity of each of `TEXTS` under the causal judge, and under the masked one.
    """
    mask_id = models.mask_id
    versions = (
        texts,
        continue_causally(models.causal, texts, prompt_length, mask_id, draw),
        continue_masked(models.masked, texts, prompt_length, mask_id, draw, at_once=False),
        continue_masked(models.masked, texts, prompt_length, mask_id, draw, at_once=True),
    )
    found = (
        [log_likelihood(judges.causal, version) for version in versions],
        [pseudo_log_likelihood(judges.masked, version, mask_id) for version in versions],
    )
    return [
        [float(np.exp(-scores[:, prompt_length:].mean())) for scores in judge] for judge in found
    ]
