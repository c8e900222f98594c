"""The common part of the causal language models: added ids, and the settings of `generate`."""

from typing import Any, NamedTuple

import numpy as np

from ktransformer.conversion.problems import Problems
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.tensors import TensorReader
from ktransformer.conversion.weight_table import Weight, check_copies
from ktransformer.tasks import GenerationConfig
from ktransformer.text import SpecialIds

# An added token is never chosen: exp(-1e4) is 0, and float16 holds it. So the softmax is over
# their ids alone.
_ADDED_BIAS = -1e4
# Settings of `generate` that change no text here: caches, speed, and what it returns beside texts.
_HARMLESS = (
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "decoder_start_token_id",
    "disable_compile",
    "do_sample",
    "is_assistant",
    "low_memory",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "return_dict_in_generate",
    "return_legacy_cache",
    "target_lookbehind",
    "tf_legacy_loss",
    "transformers_version",
    "use_cache",
)
# Rules that are unknown here, each with the values that turn it off.
_UNKNOWN_RULES: dict[str, tuple[Any, ...]] = {
    "constraints": (None,),
    "dola_layers": (None,),
    "encoder_no_repeat_ngram_size": (0, None),
    "encoder_repetition_penalty": (1.0, 1, None),
    "epsilon_cutoff": (0.0, 0, None),
    "eta_cutoff": (0.0, 0, None),
    "exponential_decay_length_penalty": (None,),
    "force_words_ids": (None,),
    "forced_decoder_ids": (None,),
    "generation_kwargs": ({}, None),
    "guidance_scale": (None, 1.0, 1),
    "max_time": (None,),
    "penalty_alpha": (None, 0.0, 0),
    "sequence_bias": (None,),
    "stop_strings": (None,),
    "token_healing": (False, None),
    "top_h": (None,),
    "typical_p": (1.0, 1, None),
    "watermarking_config": (None,),
}


class AddedIds(NamedTuple):
    """Special ids, and the rows that they add behind those of a published vocabulary.

    Attributes:
        special: The special ids.
        num_added: The number of added ids: padding, and where the published ids have no tokenizer
            here also the unknown and the start token, so that each of theirs can be written.
        start_row: The published id that begins a text, whose vector an added start token copies.
    """

    special: SpecialIds
    num_added: int
    start_row: int

    @classmethod
    def behind(cls, vocabulary_size: int, start_row: int, end: int) -> "AddedIds":
        """Adds padding, an unknown and a start token behind a vocabulary."""
        pad, unknown, start = (vocabulary_size + i for i in range(3))
        return cls(SpecialIds(start=start, end=end, pad=pad, unknown=unknown), 3, start_row)

    def table(self, table: np.ndarray) -> np.ndarray:
        """Adds the rows of the added ids to a table `[V, D]`."""
        added = np.zeros((self.num_added, table.shape[1]), table.dtype)
        place = self.special.start - len(table)
        if place >= 0:
            added[place] = table[self.start_row]
        return np.concatenate([table, added])

    def kernel(self, table: np.ndarray) -> np.ndarray:
        """Makes the kernel `[D, V + num_added]` of an output projection `[V, D]` of its own."""
        return np.pad(table, [(0, self.num_added), (0, 0)]).T

    def bias(self, table: np.ndarray) -> np.ndarray:
        """Makes the output bias, which excludes the added ids, for a table `[V, D]`."""
        return np.pad(np.zeros(len(table)), (0, self.num_added), constant_values=_ADDED_BIAS)


def read_end(settings: Settings, values: dict[str, Any], problems: Problems) -> int:
    """Returns the id of the one end token, which config.json names alone or in a list of one."""
    settings.ignore("eos_token_id")
    ends = values.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if len(ends) != 1 or type(ends[0]) is not int or ends[0] < 0:
        problems.add(f"eos_token_id={ends} must be one id: a text ends with one token here")
        return 0
    return ends[0]


def read_generation(
    values: dict[str, Any], end: int, max_length: int, problems: Problems
) -> GenerationConfig:
    """Reads the settings of `generate`.

    Args:
        values: The settings; those that are absent have the defaults of `GenerationConfig`.
        end: The end token.
        max_length: The model's longest text.
        problems: Collects what has no counterpart and what is unknown.

    Returns:
        The settings. Hugging Face's `max_length` counts the first id, ours does not.
    """
    settings = Settings(values, problems, "the generation settings")
    settings.ignore(*_HARMLESS)
    settings.require("eos_token_id", end, [end], None, why="a text ends with one token here")
    for name in ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"):
        settings.require(name, None, [], why="no other tokens are kept out of its texts here")
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        settings.require(name, None, why="no token is forced here")
    for name, off in _UNKNOWN_RULES.items():
        settings.require(name, *off, why="that rule is unknown here")
    settings.require("num_beam_groups", 1, None, why="its beam would be in groups")
    settings.require("diversity_penalty", 0.0, 0, None, why="its beam would be in groups")
    settings.require("renormalize_logits", False, None, why="scores are the model's own here")
    settings.require("min_length", 0, None, why="a minimum counts new tokens here")
    options: dict[str, Any] = {
        "beam_size": settings.take_int("num_beams", most=1024, default=1),
        "length_penalty": settings.take_float("length_penalty", default=1.0),
        "early_stopping": settings.take_bool("early_stopping", default=False),
        "suppress_unknown": False,
        "repetition_penalty": settings.take_float("repetition_penalty", least=0.01, default=1.0),
        "no_repeat_ngram_size": settings.take_int(
            "no_repeat_ngram_size", least=0, most=1000, default=0
        ),
        "temperature": settings.take_float("temperature", least=1e-4, default=1.0),
        "top_k": settings.take_int("top_k", least=0, most=10_000_000, default=0),
        "top_p": settings.take_float("top_p", least=1e-6, most=1.0, default=1.0),
        "min_p": settings.take_float("min_p", most=1.0, default=0.0),
        # The end token counts here.
        "min_length": 1 + settings.take_int("min_new_tokens", least=0, most=999_999, default=0),
    }
    if values.get("max_new_tokens") is not None:
        most = settings.take_int("max_new_tokens")
        options["max_new_tokens"] = min(most, max_length)
    if values.get("max_length") is not None:
        longest = settings.take_int("max_length", least=2)
        options["max_length"] = min(longest - 1, max_length)
    settings.ignore("max_new_tokens", "max_length")
    settings.finish()
    return GenerationConfig(**options)


def check_tied(tensors: TensorReader, table: str, problems: Problems) -> None:
    """Checks that a tied model's output projection, which some files hold, is its table."""
    why = "its output would have a table of its own, against tie_word_embeddings"
    check_copies(tensors, {"lm_head.weight": table}, why, problems)


def norm(ours: str, theirs: str, *, center: bool = True) -> list[Weight]:
    """Returns the rows of a norm; without `center` it has a scale alone."""
    rows = [Weight(f"{ours}.gamma", (f"{theirs}.weight",))]
    return [*rows, Weight(f"{ours}.beta", (f"{theirs}.bias",))] if center else rows
