"""The kinds of pieces in a written date and in an ISO date."""

from collections.abc import Iterable

import numpy as np

from ktransformer.text import END_ID, PAD_ID, Tokenizer

PIECE_KINDS = ("year", "month or day in digits", "word", "sign", "end")
TARGET_NAMES = (*"␣YYYY-MM-DD", "end")
"""The pieces of an ISO date, in order; every text begins with a space."""


def piece_kinds(tokenizer: Tokenizer, ids: Iterable[int]) -> np.ndarray:
    """Classifies each piece of a written date.

    Four consecutive digits are a year, fewer digits a month or day; letters are a word (a month, a
    weekday, or "de" and 年); everything else is a sign.

    Args:
        tokenizer: The tokenizer, with one piece per digit.
        ids: Ids `[S]`.

    Returns:
        Int array `[S]` of indices into `PIECE_KINDS`; -1 at padding.
    """
    ids = np.asarray(ids)
    pieces = [piece.strip("\N{LOWER ONE EIGHTH BLOCK}") for piece in tokenizer.pieces(ids)]
    digits = np.array([piece.isdecimal() for piece in pieces])
    kinds = np.array([2 if any(c.isalpha() for c in piece) else 3 for piece in pieces])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], digits, [False]]).astype(int)))
    for start, end in edges.reshape(-1, 2):
        kinds[start:end] = 0 if end - start == 4 else 1
    kinds[ids == END_ID] = 4
    kinds[ids == PAD_ID] = -1
    return kinds


def by_piece(weights: np.ndarray, kinds: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """Averages attention weights by the kind of source piece.

    Args:
        weights: Float array `[B, T, S]`.
        kinds: Kinds from `piece_kinds`, `[B, S]`.

    Returns:
        The attention on each kind, `[T, kinds]`, and the same for uniform attention, `[kinds]`.
    """
    is_kind = (kinds[..., None] == np.arange(len(PIECE_KINDS))).astype(float)  # [B, S, kinds]
    even = is_kind.sum(axis=1) / (kinds >= 0).sum(axis=1, keepdims=True)
    return (weights @ is_kind).mean(axis=0).tolist(), even.mean(axis=0).tolist()
