"""What the pieces of a written date and of an ISO date are."""

from collections.abc import Iterable

import numpy as np

from ktransformer.text import END_ID, PAD_ID, Tokenizer

PIECE_KINDS = ("year", "month or day in digits", "word", "sign", "end")
TARGET_NAMES = (*"␣YYYY-MM-DD", "end")
"""The pieces of an ISO date, in order; the first is the space that every text begins with."""


def piece_kinds(tokenizer: Tokenizer, ids: Iterable[int]) -> np.ndarray:
    """Tells what each piece of a written date is.

    Four digits in a row are the year, fewer a month or day; letters are a word (a month, a
    weekday, or "de" and 年); anything else is a sign.

    Args:
        tokenizer: The tokenizer; each digit is a piece of its own.
        ids: The pieces `[S]`.

    Returns:
        Int array `[S]` of places in `PIECE_KINDS`; -1 at padding.
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
    """Averages attention by the kind of the source piece that it goes to.

    Args:
        weights: Float array `[B, T, S]`.
        kinds: What `piece_kinds` returned, `[B, S]`.

    Returns:
        The shares of each kind `[T, kinds]`, and those if all pieces of a text got as much.
    """
    is_kind = (kinds[..., None] == np.arange(len(PIECE_KINDS))).astype(float)  # [B, S, kinds]
    even = is_kind.sum(axis=1) / (kinds >= 0).sum(axis=1, keepdims=True)
    return (weights @ is_kind).mean(axis=0).tolist(), even.mean(axis=0).tolist()
