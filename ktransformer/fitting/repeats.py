"""How often the targets of a training repeat a run of tokens in a row."""

import collections

import numpy as np

from ktransformer.text.batches import EpochBatches

_LONGEST = 8  # Tokens of a run: what `NoLoops` looks for.
_LEAST, _MOST = 3, 16
_SHARE = 1e-4  # Of the targets may have more.
_ENOUGH = 100_000  # Targets to look at.


def choose_max_repeats(batches: EpochBatches, pad: int) -> int:
    """Returns how often a translation may repeat a run of up to 8 tokens in a row.

    That is 3, or more if more than one in 10,000 targets has more, as numbers such as 1,000,000 do;
    0 for no limit if these have more than 16. The targets are those of the first epoch, at most
    some 100,000.

    Args:
        batches: The training batches, on pairs.
        pad: The id that pads the labels.
    """
    counts: collections.Counter[int] = collections.Counter()
    for batch in batches.epoch(0):
        labels = batch[1]
        counts.update(count_repeats(labels[(labels != pad).any(axis=1)], pad).tolist())
        if counts.total() >= _ENOUGH:
            break
    may_have_more = int(_SHARE * counts.total())
    for repeats in range(_LEAST, _MOST + 1):
        if sum(n for found, n in counts.items() if found > repeats) <= may_have_more:
            return repeats
    return 0


def count_repeats(ids: np.ndarray, pad: int) -> np.ndarray:
    """Returns how often a run of up to 8 ids stands in a row, at most: `[B, T] -> [B]`."""
    most = np.ones(len(ids), "int64")
    for size in range(1, min(_LONGEST, ids.shape[1] - 1) + 1):
        same = (ids[:, size:] == ids[:, :-size]) & (ids[:, size:] != pad)
        count = same.cumsum(axis=1)
        in_a_row = count - np.maximum.accumulate(np.where(same, 0, count), axis=1)
        most = np.maximum(most, in_a_row.max(axis=1) // size + 1)
    return most
