"""The decoding rules that settings ask for."""

from ktransformer.config import DecodingConfig
from ktransformer.decoding import (
    Coverage,
    LengthPenalty,
    MinimumLength,
    NoRepeatedNgrams,
    RepetitionPenalty,
    Rule,
)
from ktransformer.tasks.generation_config import GenerationConfig


def to_rules(decoding: DecodingConfig | GenerationConfig) -> tuple[Rule, ...]:
    """Makes the rules of a search; a setting that is off gives none."""
    rules: list[Rule] = [LengthPenalty(decoding.length_penalty)]
    if decoding.repetition_penalty != 1:
        rules.append(RepetitionPenalty(decoding.repetition_penalty))
    if decoding.no_repeat_ngram_size:
        rules.append(NoRepeatedNgrams(decoding.no_repeat_ngram_size))
    if decoding.min_length > 1:
        rules.append(MinimumLength(decoding.min_length))
    if isinstance(decoding, DecodingConfig) and decoding.coverage_penalty:
        rules.append(Coverage(decoding.coverage_penalty))
    return tuple(rules)
