"""The decoding rules that settings ask for."""

import dataclasses

import tensorflow as tf

from ktransformer.config import DecodingConfig, SearchConfig
from ktransformer.decoding import (
    Coverage,
    LengthPenalty,
    MinimumLength,
    NoLoops,
    NoRepeatedNgrams,
    RepetitionPenalty,
    Rule,
)


def to_rules(
    decoding: SearchConfig, source: tf.Tensor | None = None, pad_id: int = 0
) -> tuple[Rule, ...]:
    """Makes the rules of a search; a setting that is off gives none.

    Args:
        decoding: The settings.
        source: Int32 `[B, S]`, the ids that are translated; None for none. Where a run stands in
            them more often than `max_repeats` in a row, runs may do so in the translation.
        pad_id: Pads them.
    """
    rules: list[Rule] = [LengthPenalty(decoding.length_penalty)]
    if decoding.repetition_penalty != 1:
        rules.append(RepetitionPenalty(decoding.repetition_penalty))
    if decoding.no_repeat_ngram_size:
        rules.append(NoRepeatedNgrams(decoding.no_repeat_ngram_size))
    if decoding.max_repeats:
        rule = NoLoops(decoding.max_repeats)
        if source is not None:
            rule = dataclasses.replace(rule, exempt=rule.find_repeating(source, pad_id))
        rules.append(rule)
    if decoding.min_length > 1:
        rules.append(MinimumLength(decoding.min_length))
    if isinstance(decoding, DecodingConfig) and decoding.coverage_penalty:
        rules.append(Coverage(decoding.coverage_penalty))
    return tuple(rules)
