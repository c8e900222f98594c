"""The encoded text of a training; read without TensorFlow."""

import dataclasses
from typing import Any

from ktransformer.config import Config
from ktransformer.text.batches import EpochBatches


@dataclasses.dataclass(frozen=True)
class EncodedData:
    """Text as a training reads it.

    Attributes:
        config: The settings, with those that are chosen from the text or for it: of the data,
            `max_repeats`, and `copy` for `copy_share`.
        tokenizers: Those of the source and of the target: one object twice for a shared vocabulary.
        batches: The training batches.
        validation: The validation batches, or None.
        facts: What a model card says of the text, by name.
        scored: What the scores of an epoch are computed on, in words; None where there are none.
        signature: sacreBLEU's signature of BLEU; None likewise.
    """

    config: Config
    tokenizers: tuple[Any, Any]
    batches: EpochBatches
    validation: EpochBatches | None
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    scored: str | None = None
    signature: str | None = None
