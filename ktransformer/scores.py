"""What translations are worth against references: BLEU, chrF and exact matches."""

import dataclasses
from collections.abc import Sequence

import sacrebleu


@dataclasses.dataclass(frozen=True)
class Scores:
    """How near translations are to their references.

    Attributes:
        bleu: Corpus BLEU, 0 to 100, cased. It is 0 where no reference has four words in a row
            with a translation; there the others tell more.
        chrf: Corpus chrF, 0 to 100.
        exact_match: Share of translations that are their reference to the character, 0 to 1.
        signature: How the BLEU was computed, in sacreBLEU's words.

    Reference: Papineni et al. 2002 (BLEU); Popovic 2015 (chrF); Post 2018 (sacreBLEU).
    """

    bleu: float
    chrf: float
    exact_match: float
    signature: str


def score_texts(
    texts: Sequence[str], references: Sequence[str], *, tokenize: str | None = None
) -> Scores:
    """Scores translations, at least one, with sacreBLEU.

    Args:
        texts: The translations.
        references: As many texts.
        tokenize: sacreBLEU's name of how BLEU finds words; None for its default, 13a.
    """
    # `force`: text that is tokenised already is not worth a warning.
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenize, force=True), sacrebleu.CHRF()
    columns = [list(references)]
    return Scores(
        bleu=bleu.corpus_score(list(texts), columns).score,
        chrf=chrf.corpus_score(list(texts), columns).score,
        exact_match=sum(map(str.__eq__, texts, references)) / len(texts),
        signature=str(bleu.get_signature()),
    )
