"""The settings of searches."""

import dataclasses
from typing import ClassVar

from ktransformer.config.checks import check, check_choice, check_integers, check_range
from ktransformer.config.choices import CHOICES
from ktransformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The settings of every search."""

    LENGTHS: ClassVar[tuple[str, ...]] = ()
    """The fields that must be at most the model's `max_length`."""

    beam_size: int = 1
    """Places of the beam; 1 is greedy search."""
    length_penalty: float = 1.0
    """Exponent of the length that a hypothesis' log-probability is divided by."""
    early_stopping: bool = True
    """A beam ends with as many finished hypotheses as places, or when no live one can win; false
    ends it when the best live one is not above the worst of so many finished ones."""
    score_forced_end: bool = True
    """The end token that the length limit forces counts in the log-probability."""
    suppress_unknown: bool = True
    """Never write the unknown piece."""
    min_length: int = 1
    """The fewest tokens to write, the end token included; 1 for no minimum."""
    repetition_penalty: float = 1.0
    """Lowers the logits of tokens that the text already contains, by this factor (Keskar et al.
    2019); 1 for no penalty."""
    no_repeat_ngram_size: int = 0
    """No text contains twice the same run of so many tokens; 0 for no rule."""
    max_repeats: int | None = None
    """No run of up to 8 tokens stands more often than this in a row, which ends loops, unless one
    does in the source; 0 for no rule. Null in a training: 3, or more where its text has more."""

    def __post_init__(self) -> None:
        check_integers(self)
        for name in ("beam_size", "min_length"):
            check_range(self, name, least=1)
        for name in ("length_penalty", "no_repeat_ngram_size", "max_repeats"):
            check_range(self, name, least=0)
        check_range(self, "repetition_penalty", least=0, open_below=True)
        for name in ("early_stopping", "score_forced_end", "suppress_unknown"):
            check_choice(self, name, True, False)

    def check_lengths(self, max_length: int) -> None:
        """Checks that texts are not allowed to be longer than a model's `max_length`.

        Raises:
            InputError: They are.
        """
        for name in self.LENGTHS:
            length = getattr(self, name)
            if length is not None and length > max_length:
                raise InputError(
                    f"{name} must be at most the model's max_length, {max_length}; got {length}."
                )


@dataclasses.dataclass(frozen=True)
class DecodingConfig(SearchConfig):
    """The settings of the search for translations."""

    LENGTHS = ("max_source_length", "max_target_length")

    beam_size: int = 4
    """Places of the beam; 1 is greedy search."""
    coverage_penalty: float = 0.0
    """Lowers the score of a translation that pays little attention to part of the source (Wu et al.
    2016); 0 for no penalty."""
    max_length_ratio: float = 2.0
    """Target tokens allowed for each source token ..."""
    max_length_offset: int = 20
    """... and beyond that."""
    max_source_length: int | None = None
    """Longer texts are cut there, in tokens, the end token included; null for max_length."""
    max_target_length: int | None = None
    """No translation is longer, likewise."""
    alignment_layer: int | None = None
    """The decoder block, from 0, whose cross-attention aligns a translation with its source; null
    for the last. guided_alignment sets this and the next two."""
    alignment_heads: int | None = None
    """Its first so many heads; null for all."""
    alignment_shift: bool = False
    """A token is aligned by the weights that read it, not by those that predict it (Chen et al.
    2020)."""
    tag: str | None = None
    """The tag to put before every text, of a model that was trained with tags: 2de for <2de>; null
    where the texts begin with one themselves, as those of a training must."""
    target_language: str | None = None
    """The language to translate into, of a model with language tokens such as >>por<<: por; null
    where the texts begin with the token themselves, as those of a training must."""
    copy: tuple[str, ...] = ()
    """What comes back as it is: tags, placeholders, urls, emails, code, emoji, unknown, numbers;
    none for nothing. See docs/copied-text.md."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.copy:
            check(kind in CHOICES["copy"], f"copy must be some of {CHOICES['copy']}", copy=kind)
        check_range(self, "max_source_length", least=2)
        check_range(self, "max_target_length", least=1)
        check_range(self, "alignment_layer", least=0)
        check_range(self, "alignment_heads", least=1)
        check_choice(self, "alignment_shift", True, False)
        for name in ("max_length_ratio", "max_length_offset", "coverage_penalty"):
            check_range(self, name, least=0)
        check(
            self.max_length_ratio > 0 or self.max_length_offset > 0,
            "max_length_ratio and max_length_offset must not both be 0",
            max_length_ratio=self.max_length_ratio,
            max_length_offset=self.max_length_offset,
        )
