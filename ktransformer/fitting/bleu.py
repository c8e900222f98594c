"""BLEU of validation text, while a model is trained."""

from collections.abc import Sequence
from typing import Any

import sacrebleu

from ktransformer.fitting.averaging import ValidationCallback
from ktransformer.serving import ModelEngine, Translator, translate_lines


class BleuCallback(ValidationCallback):
    """Translates validation text after each epoch, in-graph, and logs its BLEU.

    Args:
        translator: A translator around the model that is being fitted.
        sources: The texts to translate.
        references: Their translations.
        batch_size: Texts translated at once.
        name: The name that the score is logged under.
    """

    def __init__(
        self,
        translator: Translator,
        sources: Sequence[str],
        references: Sequence[str],
        *,
        batch_size: int = 64,
        name: str = "val_bleu",
    ) -> None:
        super().__init__()
        self.engine = ModelEngine(translator)
        self.sources = list(sources)
        self.references = list(references)
        self.batch_size = batch_size
        self.name = name

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the score to the epoch's logs."""
        lines = translate_lines(self.engine, self.sources, batch_size=self.batch_size)
        outputs = [line.text for line in lines]
        # `force`: text that is tokenised already is not worth a warning each epoch.
        score = sacrebleu.corpus_bleu(outputs, [self.references], force=True).score
        if logs is not None:
            logs[self.name] = score
