"""Scores of translations against references: BLEU, chrF and exact matches."""

import dataclasses
from collections.abc import Sequence

import sacrebleu


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
    """
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
