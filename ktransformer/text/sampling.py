"""Subword sampling: every epoch trains on new segmentations of a text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.buckets import JoinedIds
from ktransformer.text.piece_model import find_unlisted, open_processor

if TYPE_CHECKING:
    from ktransformer.text.tokenizer import Tokenizer


class SubwordSampler:
    """Draws segmentations of lines with probabilities proportional to P^alpha, P the tokenizer's.

    The words of a line are segmented independently, because no piece spans a space. The
    segmentations of every distinct word are computed once, so that a draw for all lines takes a
    few array operations.

    Args:
        tokenizer: A tokenizer with a LiteRT form and without a mask, as `Tokenizer.train` makes.
        lines: The texts.
        alpha: Smoothing exponent, above 0: 1 draws with the tokenizer's probabilities, a smaller
            one more uniformly.
        best: Number of most probable segmentations of a word to draw from.

    Raises:
        InputError: `lines` are no strings, `alpha` is not above 0, `best` is below 1, or the
            tokenizer is of another kind.

    Example:
        ```python
        sampler = SubwordSampler(tokenizer, text.sources, alpha=0.3)
        ids = sampler.sample(np.random.default_rng(0))
        ```

    Reference: Kudo 2018, section 3.2.
    """

    def __init__(
        self, tokenizer: "Tokenizer", lines: Sequence[str], *, alpha: float, best: int = 64
    ) -> None:
        if not alpha > 0 or best < 1:
            raise InputError(
                f"alpha must be above 0 and best at least 1; got alpha={alpha}, best={best}."
            )
        if tokenizer.lite_obstacle is not None or tokenizer.special_ids.mask is not None:
            reason = tokenizer.lite_obstacle or "it has a mask"
            raise InputError(f"The tokenizer's segmentations cannot be drawn: {reason}.")
        if find_unlisted(tokenizer.model) is not None:
            raise InputError(
                "The tokenizer's segmentations cannot be drawn: its ids are those of a table, and "
                "some of its pieces have none."
            )
        numbers = {"": 0}  # Stands for the end token.
        rows = [
            [numbers.setdefault(word, len(numbers)) for word in line.split(" ") if word] + [0]
            for line in tokenizer.normalize_lines(lines)
        ]
        self._words = JoinedIds.join([np.array(row) for row in rows])
        processor = open_processor(tokenizer.model)
        scores = np.array(processor.get_score(list(range(tokenizer.vocabulary_size))))
        segmentations, cumulated = [np.array([tokenizer.special_ids.end])], [np.ones(1)]
        for word in list(numbers)[1:]:
            found = processor.nbest_encode_as_ids(word, best)
            weights = np.array([scores[ids].sum() for ids in found])
            weights = np.exp(alpha * (weights - weights.max()))
            segmentations += [tokenizer.join_symbols(np.array(ids)) for ids in found]
            cumulated.append(np.cumsum(weights) / weights.sum())
        self._segmentations = JoinedIds.join(segmentations)
        # The values of word w lie in [w, w + 1]: one search finds the draws of all words.
        self._cumulated = np.concatenate([w + part for w, part in enumerate(cumulated)])
        self._ends = np.cumsum([len(part) for part in cumulated])

    def sample(self, random: np.random.Generator) -> JoinedIds:
        """Draws a segmentation of every line, the end token included."""
        words = self._words.flat
        places = words + random.random(len(words))
        chosen = np.searchsorted(self._cumulated, places, side="right")
        chosen = np.minimum(chosen, self._ends[words] - 1)  # Rounding may reach the end.
        drawn = self._segmentations.take(chosen)
        return JoinedIds(drawn.flat, drawn.starts[self._words.starts])
