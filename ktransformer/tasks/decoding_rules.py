"""The decoding rules that settings ask for."""

from ktransformer.config import DecodingConfig
from ktransformer.config.sections import SearchConfig
from ktransformer.decoding import (
    Coverage,
    LengthPenalty,
    MinimumLength,
    NoLoops,
    NoRepeatedNgrams,
    RepetitionPenalty,
    Rule,
)


def to_rules(decoding: SearchConfig) -> tuple[Rule, ...]:
    """Makes the rules of a search; a setting that is off gives none."""
    rules: list[Rule] = [LengthPenalty(decoding.length_penalty)]
    if decoding.repetition_penalty != 1:
        rules.append(RepetitionPenalty(decoding.repetition_penalty))
    if decoding.no_repeat_ngram_size:
        rules.append(NoRepeatedNgrams(decoding.no_repeat_ngram_size))
    if decoding.max_repeats:
        rules.append(NoLoops(decoding.max_repeats))
    if decoding.min_length > 1:
        rules.append(MinimumLength(decoding.min_length))
    if isinstance(decoding, DecodingConfig) and decoding.coverage_penalty:
        rules.append(Coverage(decoding.coverage_penalty))
    return tuple(rules)
