"""BLEU, chrF and exact matches of validation text after each epoch."""

from collections.abc import Sequence
from typing import Any

from ktransformer.engines import ModelEngine, translate_lines
from ktransformer.fitting.averaging import ValidationCallback
from ktransformer.scores import score_texts
from ktransformer.tasks import Translator


class BleuCallback(ValidationCallback):
    """Translates validation text after each epoch and logs BLEU, chrF and exact matches.

    chrF and exact matches tell more where references are short: BLEU is 0 where they have fewer
    than four words.

    Args:
        translator: A translator of the model that is being fitted.
        sources: The texts to translate.
        references: Their translations.
        batch_size: Texts translated at once.
        name: Name of BLEU in the logs.
        chrf_name: Name of chrF in the logs.
        exact_match_name: Name of the share of exact matches in the logs.
    """

    def __init__(
        self,
        translator: Translator,
        sources: Sequence[str],
        references: Sequence[str],
        *,
        batch_size: int = 64,
        name: str = "val_bleu",
        chrf_name: str = "val_chrf",
        exact_match_name: str = "val_exact_match",
    ) -> None:
        super().__init__()
        self.engine = ModelEngine(translator)
        self.sources = list(sources)
        self.references = list(references)
        self.batch_size = batch_size
        self.name = name
        self.chrf_name = chrf_name
        self.exact_match_name = exact_match_name

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the scores to the epoch's logs."""
        lines = translate_lines(self.engine, self.sources, batch_size=self.batch_size)
        scores = score_texts([line.text for line in lines], self.references)
        if logs is not None:
            logs[self.name] = scores.bleu
            logs[self.chrf_name] = scores.chrf
            logs[self.exact_match_name] = scores.exact_match
