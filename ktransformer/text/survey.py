"""A first look at a text that is too long for memory."""

import dataclasses
import hashlib

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.corpus import ParallelFiles, ParallelText

_BLOCK_PAIRS = 10_000


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass over parallel text tells.

    Attributes:
        pairs: Pairs with text on both sides.
        empty: The others.
        digest: SHA-256 of the pairs in their order, in hexadecimal.
        sample: Some of the pairs, drawn evenly from all; all of them where they are few enough.
    """

    pairs: int
    empty: int
    digest: str
    sample: ParallelText


def survey_files(files: ParallelFiles, *, sample_pairs: int) -> Survey:
    """Reads files once; what is held is the sample.

    The same files have the same sample.

    Args:
        files: Parallel text.
        sample_pairs: How many pairs to draw, at most.

    Raises:
        InputError: There is no pair, or see `ParallelFiles.blocks`.

    Reference: Vitter 1985, algorithm R (the sample).
    """
    digest = hashlib.sha256()
    random = np.random.default_rng(0)
    sample: dict[int, tuple[str, str]] = {}
    count = empty = 0
    for block in files.blocks(_BLOCK_PAIRS):
        pairs = list(zip(block.sources, block.targets, strict=True))
        digest.update("".join(f"{source}\n{target}\n" for source, target in pairs).encode())
        numbers = np.arange(count, count + len(pairs))
        # The n-th of all takes one of n + 1 places at random; those of the sample are the first.
        places = np.where(numbers < sample_pairs, numbers, random.integers(0, numbers + 1))
        for i in np.flatnonzero(places < sample_pairs):
            sample[int(places[i])] = pairs[i]
        count += len(pairs)
        empty += block.empty
    if not count:
        raise InputError(f"{files.source_paths[0]} holds no pair with text on both sides.")
    sources, targets = map(list, zip(*sample.values(), strict=True))
    return Survey(count, empty, digest.hexdigest(), ParallelText(sources, targets, empty=0))
