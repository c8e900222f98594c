"""A first look at a text that is too long for memory."""

import dataclasses
import hashlib

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.corpus import ParallelFiles, ParallelText
from ktransformer.text.line_limits import LengthBound

_BLOCK_PAIRS = 10_000


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass over parallel text tells.

    Attributes:
        pairs: Pairs with text on both sides.
        empty: The others.
        digest: SHA-256 of the pairs in their order, in hexadecimal.
        sample: Some of the pairs, drawn evenly from all; all of them where they are few enough.
        surely_longer: Pairs that the sample was not drawn from, as `bound` excludes them.
    """

    pairs: int
    empty: int
    digest: str
    sample: ParallelText
    surely_longer: int = 0


def survey_files(
    files: ParallelFiles,
    *,
    sample_pairs: int,
    bound: LengthBound | None = None,
) -> Survey:
    """Reads files once; what is held is the sample.

    The same files have the same sample.

    Args:
        files: Parallel text.
        sample_pairs: How many pairs to draw, at most.
        bound: Which pairs not to draw, as they will be left out for their length; None to draw
            from all.

    Raises:
        InputError: There is no pair, or none to draw from, or see `ParallelFiles.blocks`.

    Reference: Vitter 1985, algorithm R (the sample).
    """
    digest = hashlib.sha256()
    random = np.random.default_rng(0)
    sample: dict[int, tuple[str, str]] = {}
    count = drawable = empty = 0
    for block in files.blocks(_BLOCK_PAIRS):
        pairs = list(zip(block.sources, block.targets, strict=True))
        digest.update("".join(f"{source}\n{target}\n" for source, target in pairs).encode())
        count += len(pairs)
        empty += block.empty
        if bound is not None:
            pairs = [pair for pair in pairs if not bound.excludes(*pair)]
        numbers = np.arange(drawable, drawable + len(pairs))
        # The n-th of all takes one of n + 1 places at random; those of the sample are the first.
        places = np.where(numbers < sample_pairs, numbers, random.integers(0, numbers + 1))
        for i in np.flatnonzero(places < sample_pairs):
            sample[int(places[i])] = pairs[i]
        drawable += len(pairs)
    if not count:
        raise InputError(f"{files.source_paths[0]} holds no pair with text on both sides.")
    if bound is not None and not drawable:
        raise InputError(f"No pair has at most max_length={bound.max_length} tokens.")
    sources, targets = map(list, zip(*sample.values(), strict=True))
    drawn = ParallelText(sources, targets, empty=0)
    return Survey(count, empty, digest.hexdigest(), drawn, count - drawable)
