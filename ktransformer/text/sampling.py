"""Subword sampling: a text is segmented anew each time that it is trained on."""

from collections.abc import Sequence

import numpy as np

from ktransformer.errors import InputError
from ktransformer.text.buckets import JoinedIds
from ktransformer.text.piece_model import open_processor
from ktransformer.text.tokenizer import Tokenizer


class SubwordSampler:
    """Draws segmentations of lines, with probabilities in proportion to P^alpha, P the model's.

    A segmentation of a line is one of each of its words, and they are independent of each other:
    no piece has a space within. So the segmentations of every different word are found once, and
    a draw for all lines is a few operations on arrays.

    Args:
        tokenizer: One that `Tokenizer.train` made, without a mask.
        lines: The texts.
        alpha: 1 draws as the model has it, less is more even, above 0.
        best: How many of a word's segmentations to draw from, the most probable.

    Raises:
        InputError: `lines` is one string or holds other things than strings, `alpha` is not above
            0, `best` is below 1, or the tokenizer is of another kind.

    Example:
        ```python
        sampler = SubwordSampler(tokenizer, text.sources, alpha=0.3)
        ids = sampler.sample(np.random.default_rng(0))
        ```

    Reference: Kudo 2018, section 3.2.
    """

    def __init__(
        self, tokenizer: Tokenizer, lines: Sequence[str], *, alpha: float, best: int = 64
    ) -> None:
        if not alpha > 0 or best < 1:
            raise InputError(
                f"alpha must be above 0 and best at least 1; got alpha={alpha}, best={best}."
            )
        if tokenizer.lite_obstacle is not None or tokenizer.special_ids.mask is not None:
            reason = tokenizer.lite_obstacle or "it has a mask"
            raise InputError(f"The tokenizer's segmentations cannot be drawn: {reason}.")
        numbers = {"": 0}  # No word: the end token.
        rows = [
            [numbers.setdefault(word, len(numbers)) for word in line.split(" ") if word] + [0]
            for line in tokenizer.normalize_lines(lines)
        ]
        self._words = JoinedIds.join([np.array(row) for row in rows])
        processor = open_processor(tokenizer.model)
        scores = np.array(processor.get_score(list(range(tokenizer.vocabulary_size))))
        segmentations, cumulated = [[tokenizer.special_ids.end]], [np.ones(1)]
        for word in list(numbers)[1:]:
            found = processor.nbest_encode_as_ids(word, best)
            weights = np.array([scores[ids].sum() for ids in found])
            weights = np.exp(alpha * (weights - weights.max()))
            segmentations += found
            cumulated.append(np.cumsum(weights) / weights.sum())
        self._segmentations = JoinedIds.join([np.array(ids) for ids in segmentations])
        # Those of word w lie between w and w + 1, so that one search finds the draws of all words.
        self._cumulated = np.concatenate([w + part for w, part in enumerate(cumulated)])
        self._ends = np.cumsum([len(part) for part in cumulated])

    def sample(self, random: np.random.Generator) -> JoinedIds:
        """Draws a segmentation of every line, the end token included."""
        words = self._words.flat
        places = words + random.random(len(words))
        chosen = np.searchsorted(self._cumulated, places, side="right")
        chosen = np.minimum(chosen, self._ends[words] - 1)  # Where rounding reached a word's end.
        drawn = self._segmentations.take(chosen)
        return JoinedIds(drawn.flat, drawn.starts[self._words.starts])
