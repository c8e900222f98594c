"""Checks settings: bounds and choices."""

import dataclasses
import math
from typing import Any

from ktransformer.errors import InputError, brief
from ktransformer.numbers import to_float, to_integer


def check(ok: bool, rule: str, **values: Any) -> None:
    """Raises an `InputError` with the rule and the offending values unless `ok`."""
    if not ok:
        got = ", ".join(f"{name}={brief(value)}" for name, value in values.items())
        raise InputError(f"{rule}; got {got}.")


def check_range(
    section: Any,
    name: str,
    *,
    least: float,
    most: float = math.inf,
    open_below: bool = False,
    open_above: bool = False,
) -> None:
    """Converts a setting to int or float and checks its bounds; None always passes."""
    value = getattr(section, name)
    if value is not None:
        is_integer = type(section).__dataclass_fields__[name].type in (int, int | None)
        value = to_integer(name, value) if is_integer else to_float(name, value)
        object.__setattr__(section, name, value)  # The only way into a frozen dataclass.
    rule = f"{name} must be {'above' if open_below else 'at least'} {least}"
    if most < math.inf:
        ends = "(" if open_below else "[", ")" if open_above else "]"
        rule = f"{name} must be in {ends[0]}{least}, {most}{ends[1]}"
    inside = value is None or (
        (isinstance(value, int) or math.isfinite(value))  # Not all integers fit a float.
        and (value > least or (value == least and not open_below))
        and (value < most or (value == most and not open_above))
    )
    check(inside, rule, **{name: value})


def check_choice(section: Any, name: str, *choices: str | bool | None) -> None:
    """Checks that a setting is one of `choices`; None stands for null."""
    value = getattr(section, name)
    words = ", ".join("null" if choice is None else str(choice) for choice in choices)
    check(value in choices, f"{name} must be one of {words}", **{name: value})


# Maximum of each integer setting: far above any use, and low enough that no size overflows.
_MOST = {
    "num_layers": 1000,
    "num_decoder_layers": 1000,
    "d_model": 65_536,
    "num_heads": 1024,
    "num_kv_heads": 1024,
    "hidden_dim": 1_048_576,
    "max_length": 1_000_000,
    "vocabulary_size": 10_000_000,
    "source_vocabulary_size": 10_000_000,
    "batch_tokens": 100_000_000,
    "bucket_step": 1_000_000,
    "shard_pairs": 1_000_000_000,
    "clean_digits": 1_000_000,
    "epochs": 1_000_000,
    "warmup_steps": 1_000_000_000,
    "accumulate_batches": 1_000_000,
    "average_checkpoints": 10_000,
    "patience": 1_000_000,
    "bleu_sentences": 1_000_000,
    "lora_rank": 65_536,
    "guided_layer": 1000,
    "guided_heads": 1024,
    "alignment_layer": 1000,
    "alignment_heads": 1024,
    "seed": 2**32 - 1,
    "beam_size": 1024,
    "max_length_offset": 1_000_000,
    "min_length": 1_000_000,
    "no_repeat_ngram_size": 1000,
    "max_repeats": 1000,
    "top_k": 10_000_000,
    "max_new_tokens": 1_000_000,
    "max_source_length": 1_000_000,
    "max_target_length": 1_000_000,
    "max_texts": 1024,
    "threads": 1024,
}


def check_integers(section: Any) -> None:
    """Converts every integer of a section to int and checks it against its maximum in `_MOST`."""
    for name in [field.name for field in dataclasses.fields(section) if field.name in _MOST]:
        value, most = getattr(section, name), _MOST[name]
        if value is not None:
            value = to_integer(name, value)
            object.__setattr__(section, name, value)
        check(value is None or value <= most, f"{name} must be at most {most}", **{name: value})
