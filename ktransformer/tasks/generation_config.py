"""The settings with which a causal language model continues texts."""

import dataclasses

from ktransformer.config import SearchConfig
from ktransformer.config.checks import check_range


@dataclasses.dataclass(frozen=True)
class GenerationConfig(SearchConfig):
    """The settings of the search and of sampling."""

    LENGTHS = ("max_length",)

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
        super().__post_init__()
        for name in ("max_new_tokens", "max_length"):
            check_range(self, name, least=1)
        check_range(self, "top_k", least=0)
        check_range(self, "temperature", least=0, open_below=True)
        check_range(self, "top_p", least=0, most=1, open_below=True)
        check_range(self, "min_p", least=0, most=1)
