"""Counts, digest and a random sample of a text that is too long for memory."""

import collections
import dataclasses
import hashlib

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.corpus import ParallelFiles, ParallelText
from ktransformer.text.line_limits import LengthBound

_BLOCK_PAIRS = 10_000


@dataclasses.dataclass(frozen=True)
class Survey:
    """The result of one pass over parallel text.

    Attributes:
        pairs: Pairs with text on both sides.
        empty: Pairs with an empty side.
        digest: SHA-256 of the pairs in their order, in hexadecimal.
        sample: Pairs drawn uniformly from all; all of them if they are few enough.
        surely_longer: Pairs that `bound` excluded from the sample.
        weighted: Whether a pair has another weight than 1.
        dropped: See `ParallelText.dropped`.
    """

    pairs: int
    empty: int
    digest: str
    sample: ParallelText
    surely_longer: int = 0
    weighted: bool = False
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)


def survey_files(
    files: ParallelFiles,
    *,
    sample_pairs: int,
    bound: LengthBound | None = None,
) -> Survey:
    """Reads files once, and keeps only a sample of their pairs in memory.

    The same files give the same sample.

    Args:
        files: Parallel text.
        sample_pairs: The most pairs to draw.
        bound: Excludes pairs that are too long to be trained on; None to draw from all.

    Raises:
        InputError: There is no pair, or none to draw from, or see `ParallelFiles.blocks`.

    Reference: Vitter 1985, algorithm R (the sample).
    """
    digest = hashlib.sha256()
    random = np.random.default_rng(0)
    sample: dict[int, tuple[str, str, float]] = {}
    count = drawable = empty = 0
    weighted = False
    dropped: collections.Counter[str] = collections.Counter()
    for block in files.blocks(_BLOCK_PAIRS):
        weights = block.weights or [1.0] * len(block)
        pairs = list(zip(block.sources, block.targets, weights, strict=True))
        digest.update("".join(f"{source}\n{target}\n" for source, target, _ in pairs).encode())
        if block.weights is not None:
            weighted = True
            digest.update(np.array(block.weights, "<f8").tobytes())
        count += len(pairs)
        empty += block.empty
        for reason, number in block.dropped.items():
            dropped[reason] += number
        if bound is not None:
            pairs = [pair for pair in pairs if not bound.excludes(*pair[:2])]
        numbers = np.arange(drawable, drawable + len(pairs))
        # Pair n draws one of n + 1 places; the first `sample_pairs` places are the sample.
        places = np.where(numbers < sample_pairs, numbers, random.integers(0, numbers + 1))
        for i in np.flatnonzero(places < sample_pairs):
            sample[int(places[i])] = pairs[i]
        drawable += len(pairs)
    if not count:
        raise InputError(f"{files.source_paths[0]} holds no pair with text on both sides.")
    if bound is not None and not drawable:
        raise InputError(f"No pair has at most max_length={bound.max_length} tokens.")
    sources, targets, weights = map(list, zip(*sample.values(), strict=True))
    drawn = ParallelText(sources, targets, empty=0, weights=weights if weighted else None)
    return Survey(
        count, empty, digest.hexdigest(), drawn, count - drawable, weighted, dict(dropped)
    )
