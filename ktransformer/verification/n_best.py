"""Compares the n-best translations of an export with those of its run."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ktransformer.engines import Engine
from ktransformer.exporting.matching import match

_BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class NBest:
    """What the signature `beam` of an export made of texts.

    Attributes:
        identical: Share of the translations, at all places, that are the run's.
        score_difference: The greatest between identical translations' scores.
    """

    identical: float
    score_difference: float

    def broken(self, name: str, limits: dict[str, float]) -> list[str]:
        """Says which limits do not hold for the export `name`; NaN breaks each."""
        broken = []
        least = limits.get("min_identical", 0.0)
        most = limits.get("max_score_difference", math.inf)
        if not self.identical >= least:
            broken.append(
                f"{name}: {self.identical:.4f} of the n-best translations are identical, "
                f"at least {least} were to be."
            )
        if not self.score_difference <= most:
            broken.append(
                f"{name}: scores of identical n-best translations differ by "
                f"{self.score_difference:.6f}, at most {most} was allowed."
            )
        return broken


def compare_n_best(
    run: Engine, export: Engine, sources: Sequence[str], limits: dict[str, float]
) -> NBest | None:
    """Translates texts into as many translations as the beam has places, and compares.

    Equally good translations may swap places. At the end of the list, they may replace each other.

    Args:
        run: The model itself.
        export: The export, which searches as the run does.
        sources: The texts.
        limits: What is demanded, of which `max_score_difference` says what is equally good.

    Returns:
        The comparison; None for an export that gives one translation alone, and for one that is
        quantised or has a shortlist, whose other translations may well differ.
    """
    width = export.description.decoding.beam_size
    if width == 1 or "beam" not in export.signatures or export.description.inexact:
        return None
    limit = limits.get("max_score_difference", 0.0)
    count, equal, gaps = 0, 0, [0.0]
    for start in range(0, len(sources), _BATCH_SIZE):
        batch = sources[start : start + _BATCH_SIZE]
        for wanted, got in zip(
            run.translate_n_best(batch, width), export.translate_n_best(batch, width), strict=True
        ):
            matched, last = match(wanted.texts, got.texts), wanted.scores[-1]
            gaps += [abs(wanted.scores[i] - got.scores[j]) for i, j in matched.equal]
            count += len(wanted.texts)
            equal += len(matched.equal) + sum(
                abs(wanted.scores[i] - last) <= limit and abs(got.scores[j] - last) <= limit
                for i, j in matched.unequal
            )
    return NBest(equal / count, float(np.max(gaps)))  # Not a number if one is not.
