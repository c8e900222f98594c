"""Scores of translations against references: BLEU, chrF, TER, exact matches, significance."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import sacrebleu
from sacrebleu.significance import PairedTest

from ktransformer.errors import InputError, brief

_TER_WORDS = 1000


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of translations against their references.

    Attributes:
        bleu: Corpus BLEU, 0 to 100, cased. It is 0 if no translation shares four words in a row
            with its reference, as with short texts; the other scores then tell more.
        chrf: Corpus chrF, 0 to 100.
        exact_match: Share of translations that equal their reference exactly, 0 to 1.
        signature: sacreBLEU's description of how BLEU was computed.

    Reference: Papineni et al. 2002 (BLEU); Popovic 2015 (chrF); Post 2018 (sacreBLEU).
    """

    bleu: float
    chrf: float
    exact_match: float
    signature: str


def score_texts(
    texts: Sequence[str], references: Sequence[str], *, tokenize: str | None = None
) -> Scores:
    """Scores one or more translations with sacreBLEU.

    Args:
        texts: The translations.
        references: The reference of each translation.
        tokenize: sacreBLEU's name of a tokenizer for BLEU; None for its default, 13a.

    Raises:
        InputError: There is no translation, or not one for each reference.
    """
    _check_lengths(references, texts)
    # `force`: no warning for text that is already tokenised.
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenize, force=True), sacrebleu.CHRF()
    columns = [list(references)]
    return Scores(
        bleu=bleu.corpus_score(list(texts), columns).score,
        chrf=chrf.corpus_score(list(texts), columns).score,
        exact_match=sum(map(str.__eq__, texts, references)) / len(texts),
        signature=str(bleu.get_signature()),
    )


def nearest_text(texts: Sequence[str], reference: str, *, tokenize: str | None = None) -> str:
    """Returns the text with the highest sentence BLEU, the first of those.

    Args:
        texts: Translations of one source, at least one.
        reference: Its reference.
        tokenize: As of `score_texts`.
    """
    bleu = sacrebleu.BLEU(tokenize=tokenize, force=True, effective_order=True)
    return max(texts, key=lambda text: bleu.sentence_score(text, [reference]).score)


def edit_rate(texts: Sequence[str], references: Sequence[str]) -> float | None:
    """Returns the translation edit rate (TER) of a corpus, in percent; less is better.

    Args:
        texts: The translations.
        references: The reference of each translation.

    Returns:
        The rate; None where a line has more than 1,000 words, for the time and memory grow with
        their square.

    Raises:
        InputError: As `score_texts`.

    Reference: Snover et al. 2006, as sacreBLEU computes it, without regard to case.
    """
    _check_lengths(references, texts)
    if _are_long(texts, references):
        return None
    score: float = sacrebleu.TER().corpus_score(list(texts), [list(references)]).score
    return score


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One score of two systems, and whether the difference may be chance.

    Attributes:
        score: The score of the first system.
        interval: The 95% confidence interval of its mean over the resamples, lower and upper end.
        other: The score of the second system.
        other_interval: Likewise.
        p_value: Probability of so large a difference, up or down, between equal systems; 1 for
            equal scores.
        signature: sacreBLEU's description of the score and of the test, with its seed.
    """

    score: float
    interval: tuple[float, float]
    other: float
    other_interval: tuple[float, float]
    p_value: float
    signature: str


def compare_texts(
    texts: Sequence[str],
    others: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: str | None = None,
    resamples: int = 1000,
) -> dict[str, Comparison]:
    """Compares the translations of two systems by sacreBLEU's paired bootstrap.

    The seed is that of the environment variable `SACREBLEU_SEED`, 12345 unless set.

    Args:
        texts: The translations of the first system.
        others: Those of the second, of the same sources.
        references: The reference of each translation.
        tokenize: As of `score_texts`.
        resamples: How often the sentences are drawn anew.

    Returns:
        The comparisons by `"bleu"`, `"chrf"` and `"ter"`, of which less TER is better; without
        `"ter"` where `edit_rate` is None.

    Raises:
        InputError: As `score_texts`, or `SACREBLEU_SEED` is no seed.

    Reference: Koehn 2004.
    """
    _check_lengths(references, texts, others)
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    if seed.lower() != "none" and not (seed.isascii() and seed.isdecimal()):
        raise InputError(f"SACREBLEU_SEED must be a whole number or none; got {brief(seed)}.")
    metrics: dict[str, Any] = {
        "bleu": sacrebleu.BLEU(tokenize=tokenize, force=True),
        "chrf": sacrebleu.CHRF(),
    }
    if not _are_long(texts, others, references):
        metrics["ter"] = sacrebleu.TER()
    systems: list[Any] = [("other", list(others)), ("first", list(texts))]
    test = PairedTest(systems, metrics, [list(references)], test_type="bs", n_samples=resamples)
    signatures, results = test()
    comparisons = {}
    for name, (key, signature) in zip(metrics, signatures.items(), strict=True):
        pair: list[Any] = results[key]
        other, first = pair
        comparisons[name] = Comparison(
            float(first.score),
            _interval(first),
            float(other.score),
            _interval(other),
            # sacreBLEU gives equal systems 1 / (resamples + 1).
            1.0 if first.score == other.score else float(first.p_value),
            str(signature),
        )
    return comparisons


def _check_lengths(references: Sequence[str], *systems: Sequence[str]) -> None:
    for texts in systems:
        if len(texts) != len(references) or not texts:
            raise InputError(
                f"There must be a translation for each reference, one at least; got {len(texts)} "
                f"and {len(references)}."
            )


def _are_long(*sides: Sequence[str]) -> bool:
    """Returns whether a line has too many words for TER."""
    return any(len(line.split()) > _TER_WORDS for side in sides for line in side)


def _interval(result: Any) -> tuple[float, float]:
    return float(result.mean - result.ci), float(result.mean + result.ci)
