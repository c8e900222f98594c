"""The settings of the tokenizer and the batches."""

import dataclasses

from ktransformer.config.checks import check, check_integers, check_range

CLEANING_RULES = ("identical", "script", "ratio", "digits", "duplicates")
"""The rules that drop training pairs, see `ktransformer.text.cleaning`."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The tokenizer and the batches; what is chosen from the text is in `fitting.defaults`."""

    shared_vocabulary: bool = True
    """One tokenizer and one vocabulary for source and target; false gives each side its own, with
    an embedding table of its own: for two scripts, say."""
    vocabulary_size: int | None = None
    """The most pieces of the vocabulary, of the target's where there are two; null to choose from
    its text: 4 for each square root of the characters, from 300 to 8000."""
    source_vocabulary_size: int | None = None
    """Without shared_vocabulary, the most pieces of the source's vocabulary; null for as many as
    vocabulary_size, or, where that is null, to choose from the source's text in the same way."""
    split_digits: bool = True
    """Every digit is a piece of its own."""
    character_coverage: float = 1.0
    """Share of the text's characters that get a piece; the rarest others become unknown."""
    symbols: tuple[str, ...] = ()
    """Texts that become one unbreakable piece each, such as <x1>."""
    tags: tuple[str, ...] = ()
    """Likewise, for texts that only sources contain, such as <2de>: no translation contains one."""
    copy_share: float = 0.0
    """Share of the training pairs that get the symbols <c0> to <c9> in each epoch, which stand for
    spans to copy; see docs/copied-text.md. 0 for no such symbols."""
    batch_tokens: int | None = None
    """The most tokens of a batch on each side, padding included; subword_alpha may add some,
    and rdrop_alpha holds them twice. null to choose from the text, from 512 to 4096."""
    bucket_step: int = 4
    """Distance between two buckets' lengths, in tokens: fewer shapes against less padding."""
    subword_alpha: float | None = None
    """Subword sampling: segment the training text anew each epoch, with P^alpha; null for never."""
    mix_share: float = 0.5
    """Share of an epoch's batches that are of the text that is mixed in, in (0, 1)."""
    shard_pairs: int = 500_000
    """Pairs held in memory; a text of more is streamed, without subword_alpha."""
    clean: tuple[str, ...] = ()
    """Rules that drop training pairs, of identical, script, ratio, digits and duplicates; see
    docs/training-text.md."""
    clean_ratio: float = 3.0
    """Rule ratio: the most that a pair's ratio of lengths differs from the text's, as a factor."""
    clean_script: float = 0.5
    """Rule script: the least share of a side's letters in the text's scripts."""
    clean_digits: int = 2
    """Rule digits: the most digits without a counterpart on the other side."""

    def __post_init__(self) -> None:
        check_integers(self)
        check_range(self, "vocabulary_size", least=5)
        check_range(self, "source_vocabulary_size", least=5)
        check(
            self.source_vocabulary_size is None or not self.shared_vocabulary,
            "source_vocabulary_size needs shared_vocabulary=false",
            source_vocabulary_size=self.source_vocabulary_size,
            shared_vocabulary=self.shared_vocabulary,
        )
        for name in ("symbols", "tags"):
            named = [each for each in getattr(self, name) if len(each.split()) != 1]
            check(not named, f"{name} must be texts without white space", **{name: named})
        symbols = (*self.symbols, *self.tags)
        check(len({*symbols}) == len(symbols), "symbols and tags must be distinct", symbols=symbols)
        check_range(self, "batch_tokens", least=1)
        check_range(self, "character_coverage", least=0, most=1, open_below=True)
        check_range(self, "bucket_step", least=1)
        check_range(self, "subword_alpha", least=0, open_below=True)
        check_range(self, "shard_pairs", least=1)
        check_range(self, "copy_share", least=0, most=1)
        check_range(self, "mix_share", least=0, most=1, open_below=True, open_above=True)
        for rule in self.clean:
            words = ", ".join(CLEANING_RULES)
            check(rule in CLEANING_RULES, f"clean must be of {words}", clean=rule)
        check_range(self, "clean_ratio", least=1, open_below=True)
        check_range(self, "clean_script", least=0, most=1)
        check_range(self, "clean_digits", least=0)
