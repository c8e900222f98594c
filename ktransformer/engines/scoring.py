"""Scores given translations with a translator."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ktransformer.tasks.inputs import cut_texts
from ktransformer.tasks.translator import Translator


class PairScore(NamedTuple):
    """How probable a target text is as the translation of its source.

    Attributes:
        log_probability: Of the target with its end token.
        tokens: Tokens of the target, the end token included.
        truncated: Whether a side was cut to its longest length.
    """

    log_probability: float
    tokens: int
    truncated: bool


def score_pairs(
    translator: Translator, sources: Sequence[str], targets: Sequence[str], *, batch_size: int = 32
) -> Iterator[PairScore]:
    """Scores pairs in batches, in their order.

    Args:
        translator: The model.
        sources: Source texts.
        targets: As many target texts.
        batch_size: Pairs of a batch.

    Yields:
        The score of each pair.
    """
    for start in range(0, len(sources), batch_size):
        chosen = slice(start, start + batch_size)
        scores = translator.score(
            cut_texts(sources[chosen], translator.max_source_length),
            cut_texts(targets[chosen], translator.max_target_length),
        )
        columns = (scores[name].numpy().tolist() for name in PairScore._fields)
        yield from map(PairScore, *columns)
