"""What a causal and a masked language model say of texts: the same questions to both.

A `predict` takes ids `[N, T]` and returns logits `[N, T, V]`. Texts are int arrays `[N, T]` with
padding; a causal model sees them shifted by one behind the start token.
"""

from typing import Any

import numpy as np

from ktransformer.text import END_ID, PAD_ID
from training.claims.tasks import Split, shifted

SPECIAL_IDS = END_ID + 1
"""The number of ids that stand for no piece of text; they are the first."""
_ROWS = 512
"""Texts that go through a model at once."""


def masked_split(texts: np.ndarray, mask_id: int, copies: int, seed: int) -> Split:
    """Hides tokens of several copies of each text, to be predicted.

    15% of the real tokens are chosen; 80% of these become the mask, 10% a random piece, 10% stay.

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
    """Runs a model on many rows: the log-probability of each id, float `[N, T, V]`."""
    parts = []
    for start in range(0, len(inputs), _ROWS):
        logits = np.asarray(predict(inputs[start : start + _ROWS]))
        highest = logits.max(axis=-1, keepdims=True)
        total = np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)) + highest
        parts.append(logits - total)
    return np.concatenate(parts)


def log_likelihood(predict: Any, texts: np.ndarray) -> np.ndarray:
    """Scores each token by those before it, in one pass: `[N, T]`; 0 at padding.

    By the chain rule their sum is the log-probability of the text.
    """
    found = []
    for start in range(0, len(texts), _ROWS):
        rows = texts[start : start + _ROWS]
        scores = log_probabilities(predict, shifted(rows))
        found.append(np.take_along_axis(scores, rows[..., None], axis=-1)[..., 0])
    return np.where(texts == PAD_ID, 0.0, np.concatenate(found))


def pseudo_log_likelihood(predict: Any, texts: np.ndarray, mask_id: int) -> np.ndarray:
    """Scores each token by all the others, with a pass for each: `[N, T]`; 0 at padding.

    Reference: Salazar et al. 2020.
    """
    found = np.zeros(texts.shape)
    for place in range(texts.shape[1]):
        real = np.flatnonzero(texts[:, place] != PAD_ID)
        if len(real):
            inputs = texts[real].copy()
            inputs[:, place] = mask_id
            scores = log_probabilities(predict, inputs)[:, place]
            found[real, place] = scores[np.arange(len(real)), texts[real, place]]
    return found


def with_candidates(text: np.ndarray, place: int, candidates: int) -> np.ndarray:
    """Writes every id into one place of a text: `[T] -> [candidates, T]`."""
    texts = np.tile(text, (candidates, 1))
    texts[:, place] = np.arange(candidates)
    return texts


def fill_by_left(predict: Any, texts: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Fills one place a text from what is before it: ids `[N]`."""
    scores = log_probabilities(predict, shifted(texts))
    return scores[np.arange(len(texts)), places].argmax(axis=-1)


def fill_by_mask(predict: Any, texts: np.ndarray, places: np.ndarray, mask_id: int) -> np.ndarray:
    """Fills one place a text from both sides, in one pass: ids `[N]`."""
    rows, inputs = np.arange(len(texts)), texts.copy()
    inputs[rows, places] = mask_id
    return log_probabilities(predict, inputs)[rows, places].argmax(axis=-1)


def fill_by_scoring(
    predict: Any, texts: np.ndarray, places: np.ndarray, candidates: int
) -> np.ndarray:
    """Fills one place a text by the id that makes the whole text most probable: ids `[N]`.

    So a causal model uses both sides, at the price of a pass for each candidate.
    """
    chosen = []
    for text, place in zip(texts, places, strict=True):
        totals = log_likelihood(predict, with_candidates(text, place, candidates)).sum(axis=1)
        totals[PAD_ID] = -np.inf  # Padding would leave a token out of the sum.
        chosen.append(int(totals.argmax()))
    return np.array(chosen)


def pair_sum_by_chain(predict: Any, text: np.ndarray, place: int, size: int) -> float:
    """Sums what the chain rule gives to all pairs of ids at `place` and the next: 1 is right."""
    inputs = shifted(with_candidates(text, place, size))
    inputs[:, place + 1] = np.arange(size)  # `shifted` hides what follows an end token.
    scores = log_probabilities(predict, inputs)  # [V, T, V]
    # The last row, as any but the first, in which padding stands at `place`.
    first, second = scores[-1, place], scores[:, place + 1]
    return float(np.exp(first[:, None] + second).sum())


def pair_sum_by_masks(predict: Any, text: np.ndarray, place: int, size: int, mask_id: int) -> float:
    """Sums the pseudo-likelihood, exp(PLL), of all pairs of ids at `place` and the next."""
    seconds, firsts = (with_candidates(text, known, size) for known in (place, place + 1))
    seconds[:, place + 1] = mask_id
    firsts[:, place] = mask_id
    second = log_probabilities(predict, seconds)[:, place + 1]  # [first, second]
    first = log_probabilities(predict, firsts)[:, place]  # [second, first]
    return float(np.exp(first.T + second).sum())


def sample_pieces(scores: np.ndarray, mask_id: int, draw: np.random.Generator) -> np.ndarray:
    """Draws a piece of text from each row of log-probabilities, `[N, V] -> [N]`."""
    noisy = scores + draw.gumbel(size=scores.shape)  # Its argmax follows the softmax.
    return SPECIAL_IDS + noisy[:, SPECIAL_IDS:mask_id].argmax(axis=-1)


def continue_causally(
    predict: Any, texts: np.ndarray, begin: int, mask_id: int, draw: np.random.Generator
) -> np.ndarray:
    """Writes the places from `begin` on anew, each from those before it: `[N, T]`."""
    texts = texts.copy()
    for place in range(begin, texts.shape[1]):
        scores = log_probabilities(predict, shifted(texts))
        texts[:, place] = sample_pieces(scores[:, place], mask_id, draw)
    return texts


def continue_masked(
    predict: Any,
    texts: np.ndarray,
    begin: int,
    mask_id: int,
    draw: np.random.Generator,
    *,
    at_once: bool,
) -> np.ndarray:
    """Masks the places from `begin` on and fills them, one after the other or all at once."""
    texts = texts.copy()
    texts[:, begin:] = mask_id
    scores = log_probabilities(predict, texts)
    for place in range(begin, texts.shape[1]):
        texts[:, place] = sample_pieces(scores[:, place], mask_id, draw)
        if not at_once:
            scores = log_probabilities(predict, texts)
    return texts
