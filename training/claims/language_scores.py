"""Scores, filled tokens and continuations from a causal and from a masked language model.

`predict` maps ids `[N, T]` to logits `[N, T, V]`. Texts are padded int arrays `[N, T]`; a causal
model sees them shifted right by one, behind the start token.
"""

from typing import Any

import numpy as np

from ktransformer.text import END_ID, PAD_ID
from training.claims.tasks import Split, shifted

SPECIAL_IDS = END_ID + 1
"""Number of special ids, which come first; the pieces of text follow."""
_ROWS = 512
"""Texts in a batch of inference."""


def masked_split(texts: np.ndarray, mask_id: int, copies: int, seed: int) -> Split:
    """Makes examples of masked language modelling, `copies` of each text with other masks.

    Of the 15% selected tokens, 80% become the mask, 10% a random piece, and 10% stay.

    Reference: Devlin et al. 2019, section 3.1.
    """
    draw = np.random.default_rng(seed)
    labels = np.tile(texts, (copies, 1))
    chosen = (draw.random(labels.shape) < 0.15) & (labels != PAD_ID)
    kind = draw.random(labels.shape)
    random_ids = draw.integers(SPECIAL_IDS, mask_id, labels.shape)
    inputs = np.where(chosen & (kind < 0.8), mask_id, labels)
    inputs = np.where(chosen & (kind >= 0.9), random_ids, inputs)
    return Split(inputs.astype("int32"), np.where(chosen, labels, PAD_ID).astype("int32"))


def log_probabilities(predict: Any, inputs: np.ndarray) -> np.ndarray:
    """Returns the log-probability of each id at each position, float `[N, T, V]`."""
    parts = []
    for start in range(0, len(inputs), _ROWS):
        logits = np.asarray(predict(inputs[start : start + _ROWS]))
        highest = logits.max(axis=-1, keepdims=True)
        total = np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)) + highest
        parts.append(logits - total)
    return np.concatenate(parts)


def log_likelihood(predict: Any, texts: np.ndarray) -> np.ndarray:
    """Returns each token's log-probability given the tokens before it, in one pass.

    By the chain rule their sum is the log-probability of the text.

    Returns:
        Float array `[N, T]`, 0 at padding.
    """
    found = []
    for start in range(0, len(texts), _ROWS):
        rows = texts[start : start + _ROWS]
        scores = log_probabilities(predict, shifted(rows))
        found.append(np.take_along_axis(scores, rows[..., None], axis=-1)[..., 0])
    return np.where(texts == PAD_ID, 0.0, np.concatenate(found))


def pseudo_log_likelihood(predict: Any, texts: np.ndarray, mask_id: int) -> np.ndarray:
    """Returns each token's log-probability given all other tokens, with one pass per position.

    Returns:
        Float array `[N, T]`, 0 at padding.

    Reference: Salazar et al. 2020.
    """
    found = np.zeros(texts.shape)
    for position in range(texts.shape[1]):
        real = np.flatnonzero(texts[:, position] != PAD_ID)
        if len(real):
            inputs = texts[real].copy()
            inputs[:, position] = mask_id
            scores = log_probabilities(predict, inputs)[:, position]
            found[real, position] = scores[np.arange(len(real)), texts[real, position]]
    return found


def with_candidates(text: np.ndarray, position: int, candidates: int) -> np.ndarray:
    """Copies a text once per id, with that id at one position: `[T] -> [candidates, T]`."""
    texts = np.tile(text, (candidates, 1))
    texts[:, position] = np.arange(candidates)
    return texts


def fill_by_left(predict: Any, texts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Predicts the token at one position of each text from its left context: ids `[N]`."""
    scores = log_probabilities(predict, shifted(texts))
    return scores[np.arange(len(texts)), positions].argmax(axis=-1)


def fill_by_mask(
    predict: Any, texts: np.ndarray, positions: np.ndarray, mask_id: int
) -> np.ndarray:
    """Predicts the token at one position of each text from both sides, in one pass: ids `[N]`."""
    rows, inputs = np.arange(len(texts)), texts.copy()
    inputs[rows, positions] = mask_id
    return log_probabilities(predict, inputs)[rows, positions].argmax(axis=-1)


def fill_by_scoring(
    predict: Any, texts: np.ndarray, positions: np.ndarray, candidates: int
) -> np.ndarray:
    """Chooses, for one position of each text, the id of the most probable whole text: ids `[N]`.

    So a causal model uses both sides, at the cost of one pass per candidate.
    """
    chosen = []
    for text, position in zip(texts, positions, strict=True):
        totals = log_likelihood(predict, with_candidates(text, position, candidates)).sum(axis=1)
        totals[PAD_ID] = -np.inf  # The sum ignores padding.
        chosen.append(int(totals.argmax()))
    return np.array(chosen)


def pair_sum_by_chain(predict: Any, text: np.ndarray, position: int, size: int) -> float:
    """Sums the chain rule's probability over all pairs of ids at `position` and the next: 1."""
    inputs = shifted(with_candidates(text, position, size))
    inputs[:, position + 1] = np.arange(size)  # `shifted` pads after an end token.
    scores = log_probabilities(predict, inputs)  # [V, T, V]
    # All rows give the same but the first, which has padding at `position`.
    first, second = scores[-1, position], scores[:, position + 1]
    return float(np.exp(first[:, None] + second).sum())


def pair_sum_by_masks(
    predict: Any, text: np.ndarray, position: int, size: int, mask_id: int
) -> float:
    """Sums the pseudo-likelihood, exp(PLL), of all pairs of ids at `position` and the next."""
    seconds, firsts = (with_candidates(text, known, size) for known in (position, position + 1))
    seconds[:, position + 1] = mask_id
    firsts[:, position] = mask_id
    second = log_probabilities(predict, seconds)[:, position + 1]  # [first, second]
    first = log_probabilities(predict, firsts)[:, position]  # [second, first]
    return float(np.exp(first.T + second).sum())


def sample_pieces(scores: np.ndarray, mask_id: int, draw: np.random.Generator) -> np.ndarray:
    """Samples a piece from each row of log-probabilities, `[N, V] -> [N]`."""
    noisy = scores + draw.gumbel(size=scores.shape)  # The argmax is a sample of the softmax.
    return SPECIAL_IDS + noisy[:, SPECIAL_IDS:mask_id].argmax(axis=-1)


def continue_causally(
    predict: Any, texts: np.ndarray, prompt_length: int, mask_id: int, draw: np.random.Generator
) -> np.ndarray:
    """Samples the tokens after the prompt, each from the tokens before it: `[N, T]`."""
    texts = texts.copy()
    for position in range(prompt_length, texts.shape[1]):
        scores = log_probabilities(predict, shifted(texts))
        texts[:, position] = sample_pieces(scores[:, position], mask_id, draw)
    return texts


def continue_masked(
    predict: Any,
    texts: np.ndarray,
    prompt_length: int,
    mask_id: int,
    draw: np.random.Generator,
    *,
    at_once: bool,
) -> np.ndarray:
    """Masks the tokens after the prompt and samples them, left to right or all at once."""
    texts = texts.copy()
    texts[:, prompt_length:] = mask_id
    scores = log_probabilities(predict, texts)
    for position in range(prompt_length, texts.shape[1]):
        texts[:, position] = sample_pieces(scores[:, position], mask_id, draw)
        if not at_once:
            scores = log_probabilities(predict, texts)
    return texts
