"""The settings with which a causal language model continues texts."""

import dataclasses

from ktransformer.config.checks import check_integers, check_range
from ktransformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """The settings of the search and of sampling."""

    beam_size: int = 1
    """Places of the beam; 1 is greedy search."""
    length_penalty: float = 1.0
    """Exponent of the length that a continuation's log-probability is divided by."""
    min_length: int = 1
    """The fewest tokens of a continuation, the end token included; 1 for no minimum."""
    repetition_penalty: float = 1.0
    """Lowers the logits of tokens that the text already contains, by this factor (Keskar et al.
    2019); 1 for no penalty."""
    no_repeat_ngram_size: int = 0
    """No text contains twice the same run of so many tokens; 0 for no rule."""
    temperature: float = 1.0
    """Sampling divides the logits by it."""
    top_k: int = 0
    """Sampling draws from so many most probable tokens; 0 for all."""
    top_p: float = 1.0
    """Sampling draws from the most probable tokens that reach this probability; 1 for all."""
    min_p: float = 0.0
    """Sampling draws from the tokens of at least this share of the best one's probability."""
    max_new_tokens: int | None = None
    """The most tokens of a continuation, the end token included; null for what fits."""
    max_length: int | None = None
    """The longest text, prompt and continuation, in tokens, the end token included; null for the
    model's max_length."""

    def __post_init__(self) -> None:
        check_integers(self)
        for name in ("beam_size", "min_length", "max_new_tokens", "max_length"):
            check_range(self, name, least=1)
        for name in ("length_penalty", "no_repeat_ngram_size", "top_k"):
            check_range(self, name, least=0)
        for name in ("repetition_penalty", "temperature"):
            check_range(self, name, least=0, open_below=True)
        check_range(self, "top_p", least=0, most=1, open_below=True)
        check_range(self, "min_p", least=0, most=1)

    def check_length(self, max_length: int) -> None:
        """Checks that texts are not allowed to be longer than a model's `max_length`.

        Raises:
            InputError: They are.
        """
        if self.max_length is not None and self.max_length > max_length:
            raise InputError(
                f"max_length must be at most the model's max_length, {max_length}; "
                f"got {self.max_length}."
            )
