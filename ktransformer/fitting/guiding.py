"""Guided alignment in a training: the aligner of its text, and the heads that learn from it."""

import logging
import time
from typing import TYPE_CHECKING

import keras

from ktransformer.config import Config
from ktransformer.fitting.compiling import guided_heads
from ktransformer.text.aligned_batches import AlignedBatches, pairs_of
from ktransformer.text.aligner import Aligner
from ktransformer.text.batches import EpochBatches

if TYPE_CHECKING:
    from ktransformer.fitting.vocabulary import Tokenizers

_log = logging.getLogger(__name__)
_PAIRS = 100_000  # From which the aligner learns.


def train_aligner(batches: EpochBatches, tokenizers: "Tokenizers") -> Aligner:
    """Learns an aligner from the first pairs of a text; the same batches give the same one."""
    start = time.perf_counter()
    source, target = tokenizers
    aligner = Aligner.train(
        pairs_of(batches, _PAIRS),
        (source.vocabulary_size, target.vocabulary_size),
        (source.special_ids, target.special_ids),
    )
    _log.info("Learned to align the text in %.0f s.", time.perf_counter() - start)
    return aligner


def guide(
    batches: EpochBatches, validation: EpochBatches | None, tokenizers: "Tokenizers"
) -> tuple[AlignedBatches, AlignedBatches | None]:
    """Returns batches with the alignments of an aligner that is learned from the first ones."""
    aligner = train_aligner(batches, tokenizers)
    return (
        AlignedBatches(batches, aligner),
        None if validation is None else AlignedBatches(validation, aligner),
    )


def with_alignment(config: Config, model: keras.Model) -> Config:
    """Returns the settings of a guided model, whose decoding aligns with the guided heads."""
    heads = guided_heads(model, config.training)
    settings = {"alignment_layer": heads.layer, "alignment_heads": heads.heads}
    return config.replace({**settings, "alignment_shift": heads.shifted})
