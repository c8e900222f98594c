"""Splits a batch into parts of like length, which run one by one or at the same time."""

from collections.abc import Mapping, Sequence

import numpy as np


def split_texts(
    lengths: Sequence[int], most: int, *, least: int = 1, replicas: int = 1
) -> list[np.ndarray]:
    """Chooses the parts of a batch, from its lengths alone: equal batches have equal parts.

    Args:
        lengths: The length of each text, in tokens or bytes.
        most: About the most texts of a part; parts of short texts may have more.
        least: The fewest texts for each interpreter that shares the batch, at least 1.
        replicas: Interpreters that share the batch; 1 where the parts run one by one.

    Returns:
        The places of each part's texts. The first part has the longest texts, and so on. The parts
        cost about the same: those of longer texts have fewer.
    """
    count = len(lengths)
    parts = -(-count // most)
    shares = min(replicas, count // least)
    if shares > 1:
        parts = -(-parts // shares) * shares  # No interpreter is idle while another has two.
    if parts <= 1:
        return [np.arange(count)]
    sizes = np.asarray(lengths, np.float64)
    order = np.argsort(-sizes, kind="stable")
    # Half for the steps, which grow with the length, and half for each step's own cost.
    costs = np.cumsum(sizes[order] + sizes.mean() + 1)
    goals = costs[-1] * np.arange(1, parts) / parts
    ends = np.searchsorted(costs, goals) + 1
    found = np.split(order, np.minimum(ends, count))
    return [np.sort(part) for part in found if part.size]


def merge_outputs(
    parts: Sequence[np.ndarray], outputs: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Puts the outputs `[B, ...]` of parts into the order of their batch."""
    places = np.argsort(np.concatenate(parts), kind="stable")
    return {name: np.concatenate([each[name] for each in outputs])[places] for name in outputs[0]}
