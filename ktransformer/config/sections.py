"""The configuration of a run: what the commands and recipes can set."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from ktransformer.config.checks import check, check_choice, check_integers, check_range
from ktransformer.config.yaml_file import read_yaml
from ktransformer.errors import InputError, brief, did_you_mean
from ktransformer.numbers import to_integer

_NULL = ("none", "null")
CLEANING_RULES = ("identical", "script", "ratio", "digits", "duplicates")
"""The rules that drop training pairs, see `ktransformer.text.cleaning`."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and options of the Transformer; see its docstring."""

    num_layers: int = 4
    """Blocks in the encoder, and in the decoder unless num_decoder_layers is set."""
    num_decoder_layers: int | None = None
    """Blocks in the decoder; null for as many as in the encoder."""
    d_model: int = 128
    """Width; a multiple of num_heads."""
    num_heads: int = 4
    """Attention heads."""
    num_kv_heads: int | None = None
    """Heads of keys and values, shared by the heads of queries; null for as many as those."""
    hidden_dim: int = 256
    """Features of the feed-forward networks' inner layer."""
    dropout: float = 0.1
    """Dropout on embeddings and on the sublayers' outputs, in [0, 1)."""
    attention_dropout: float = 0.0
    """Dropout on attention weights, in [0, 1)."""
    hidden_dropout: float = 0.0
    """Dropout on the feed-forward networks' inner features, in [0, 1)."""
    activation: str = "relu"
    """Inner activation of the feed-forward networks: relu, gelu, silu, ...; plain ones alone."""
    feed_forward: str = "plain"
    """plain, or gated: swiglu or geglu."""
    norm_first: bool = False
    """Pre-norm (true) or post-norm (false)."""
    norm: str = "layer"
    """layer normalization, or rms: root mean square normalization."""
    positions: str = "sinusoidal"
    """sinusoidal, sinusoidal_interleaved or learned, added to the embeddings; rotary, alibi or
    relative, in the self-attention; or none."""
    scale_embeddings: bool = True
    """Multiply token vectors by sqrt(d_model)."""
    tie_embeddings: bool = True
    """One table for source, target and output projection; for the last two, without
    shared_vocabulary."""
    output_bias: bool = False
    """A bias for each piece of the target in the output projection."""
    max_length: int = 256
    """The longest source and target in tokens, the end token included."""
    remat: bool = False
    """Compute a block's activations again for the gradient: less memory, more time."""
    dtype: str = "float32"
    """float32, mixed_float16 or mixed_bfloat16."""

    def __post_init__(self) -> None:
        check_integers(self)
        check(self.max_length >= 2, "max_length must be at least 2", max_length=self.max_length)
        for name in ("norm", "feed_forward", "positions", "dtype"):
            check_choice(self, name, *CHOICES[name])


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


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How the model is fitted; what is chosen from the text is in `fitting.defaults`."""

    epochs: int | None = None
    """Passes over the training text, at most; null for some 4000 updates, from 3 to 100 passes."""
    optimizer: str | None = None
    """adam, or muon: orthogonal updates of the matrices, Adam for all else (Jordan et al. 2024).
    null for muon; for adam where learning_rate or schedule is set, or on several GPUs."""
    learning_rate: float | None = None
    """Peak of the schedule; null for 0.004, less for a model wider than 128; for 0.002 where
    optimizer or schedule is set."""
    warmup_steps: int | None = None
    """Updates until the peak, a quarter of all at most: more are cut to that, with a warning. null
    for a tenth of all, at most 1000."""
    schedule: str | None = None
    """How it falls after the peak: inverse_square_root, or cosine, to 0 at the last epoch's end.
    null for cosine; for inverse_square_root where optimizer or learning_rate is set."""
    weight_decay: float = 0.0
    """Share of the learning rate by which an update shrinks the weights (Loshchilov 2019)."""
    label_smoothing: float = 0.1
    """Probability mass spread over the vocabulary, in [0, 1)."""
    rdrop_alpha: float = 0.0
    """R-Drop: weight of the divergence between two passes of each batch; 0 for one pass."""
    guided_alignment: float = 0.0
    """Weight of a loss that makes heads of the cross-attention align the text, such as 0.05 (Garg
    et al. 2019); 0 for none."""
    guided_layer: int | None = None
    """The decoder block that guided_alignment trains, from 0; null for the last but one."""
    guided_heads: int = 1
    """Its first so many heads, of which the mean is trained."""
    clip_norm: float | None = None
    """The most the gradient's global norm may be; null for no limit."""
    accumulate_batches: int = 1
    """Batches whose mean gradient makes one update."""
    average_checkpoints: int | None = None
    """The final weights are the mean over the last so many epochs; with patience, over those
    up to the best one. With validation text, that one epoch alone where it is better than the
    mean. null for a tenth of the epochs, at most 5."""
    patience: int | None = None
    """Stop after so many epochs without a better validation perplexity; null for never."""
    checkpoint_minutes: float = 5.0
    """Minutes between two writings of the training's state within an epoch; 0 for every update."""
    bleu_sentences: int = 200
    """Validation sentences that are translated greedily after each epoch; 0 for none."""
    tensorboard: str | None = None
    """Folder for TensorBoard's logs: curves, learning rate, gradient norm, speed, and after each
    epoch ten validation texts translated, with their attention; null for none."""
    freeze: tuple[str, ...] = ()
    """Parts of the model whose weights do not change: embeddings, encoder, decoder, ...; see
    docs/fine-tuning.md."""
    lora_rank: int = 0
    """Rank of the LoRA adapter that is trained in place of the weights (Hu et al. 2021); 0 for
    none. Needs a run to start from."""
    lora_alpha: float | None = None
    """The adapter's product is scaled by lora_alpha / lora_rank; null for a scale of 1."""
    lora_layers: tuple[str, ...] = ("self_attention", "cross_attention", "feed_forward")
    """Parts of the model whose projections the adapter changes."""
    seed: int = 1
    """Seed of weights, dropout and data order."""

    def __post_init__(self) -> None:
        check_integers(self)
        for name in ("epochs", "warmup_steps", "accumulate_batches", "average_checkpoints"):
            check_range(self, name, least=1)
        check_range(self, "guided_layer", least=0)
        check_range(self, "guided_heads", least=1)
        check_range(self, "guided_alignment", least=0)
        for name in ("rdrop_alpha", "weight_decay", "patience", "bleu_sentences"):
            check_range(self, name, least=0)
        check_range(self, "checkpoint_minutes", least=0)
        check_range(self, "seed", least=0)
        check_range(self, "lora_rank", least=0)
        check_range(self, "lora_alpha", least=0, open_below=True)
        check(bool(self.lora_layers), "lora_layers must name a part", lora_layers=self.lora_layers)
        check_range(self, "learning_rate", least=0, open_below=True)
        check_range(self, "clip_norm", least=0, open_below=True)
        check_range(self, "label_smoothing", least=0, most=1, open_above=True)
        check_choice(self, "optimizer", None, "adam", "muon")
        check_choice(self, "schedule", None, "inverse_square_root", "cosine")

    @property
    def copies(self) -> int:
        """How often a batch holds its rows: R-Drop compares two passes of each."""
        return 2 if self.rdrop_alpha else 1


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


@dataclasses.dataclass(frozen=True)
class BatchingConfig:
    """How an export joins the texts of concurrent requests into batches.

    A batch starts when it is full or its first text has waited for `timeout_ms`, as soon as one of
    `threads` is free; while all are busy, requests gather. A request that comes alone waits the
    whole time for others: with 0 it waits for a free thread at most.
    """

    max_texts: int = 32
    """Texts in a batch at most."""
    timeout_ms: float = 0.0
    """Milliseconds that a batch waits to be filled."""
    threads: int = 1
    """Batches run at a time."""

    def __post_init__(self) -> None:
        check_integers(self)
        check_range(self, "max_texts", least=1)
        check_range(self, "timeout_ms", least=0, most=60_000)
        check_range(self, "threads", least=1)


@dataclasses.dataclass(frozen=True)
class CompilationConfig:
    """In which shapes XLA compiles the searches of an export.

    A batch of texts is padded to the smallest shape that has room for it; one of `LEAST_SPLIT`
    texts and more is first split into `parts`, which run side by side. A batch that fits no shape
    runs without XLA.
    """

    LEAST_SPLIT: ClassVar[int] = 8

    batch_sizes: tuple[int, ...] = (1, 4, 8, 16, 32)
    """Texts in a batch that is not split, or in each of its parts."""
    lengths: tuple[int, ...] = (32, 64)
    """Tokens of the longest text, the end token included."""
    parts: int = 2
    """Parts of a batch that is split."""

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "lengths"):
            sizes = getattr(self, name)
            several = isinstance(sizes, Iterable) and not isinstance(sizes, str) and any(sizes)
            check(several, f"{name} must be some integers above 0", **{name: sizes})
            numbers = {to_integer(name, size, least=1) for size in sizes}
            object.__setattr__(self, name, tuple(sorted(numbers)))
        check_range(self, "parts", least=1)

    @property
    def request_sizes(self) -> tuple[int, ...]:
        """For each of `batch_sizes`, a number of texts that are searched in parts of that size."""
        return tuple(
            size if size < self.LEAST_SPLIT else size * self.parts for size in self.batch_sizes
        )


# What the settings that are one of several words may be, for `--help`.
CHOICES = {
    "activation": ("relu", "gelu", "silu", "any of keras.activations"),
    "feed_forward": ("plain", "swiglu", "geglu"),
    "norm": ("layer", "rms"),
    "positions": (
        "sinusoidal",
        "sinusoidal_interleaved",
        "learned",
        "rotary",
        "alibi",
        "relative",
        "none",
    ),
    "dtype": ("float32", "mixed_float16", "mixed_bfloat16"),
    "optimizer": ("adam", "muon"),
    "schedule": ("inverse_square_root", "cosine"),
    "copy": ("tags", "placeholders", "urls", "emails", "code", "emoji", "unknown", "numbers"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a training run can set, by section."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    def __post_init__(self) -> None:
        check(
            self.data.batch_tokens is None or self.data.batch_tokens >= self.model.max_length,
            "batch_tokens must be at least max_length, or the longest pair has no batch",
            batch_tokens=self.data.batch_tokens,
            max_length=self.model.max_length,
        )

    def replace(self, settings: dict[str, Any]) -> "Config":
        """Returns a copy with some fields changed.

        Args:
            settings: Field name to value; a name says its section by itself. A string is read
                as the field's type.

        Raises:
            InputError: A name is unknown (the message lists the known ones) or a value does not
                fit.
        """
        sections = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        owner = {
            field.name: name
            for name, section in sections.items()
            for field in dataclasses.fields(section)
        }
        changes: dict[str, dict[str, Any]] = {name: {} for name in sections}
        for key, value in settings.items():
            if key not in owner:
                raise InputError(
                    f"Unknown setting {brief(key)}; known are {', '.join(sorted(owner))}."
                    + did_you_mean(key, owner)
                )
            section = sections[owner[key]]
            changes[owner[key]][key] = convert(key, value, get_type_hints(type(section))[key])
        return dataclasses.replace(
            self,
            **{
                name: dataclasses.replace(section, **changes[name])
                for name, section in sections.items()
            },
        )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the configuration as nested dictionaries of plain values, as JSON has them."""
        return {
            section: {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in values.items()
            }
            for section, values in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, sections: dict[str, Any]) -> "Config":
        """Creates a configuration from what `to_dict` returned, or from a part of it."""
        return cls().replace(flatten(sections))


def flatten(sections: dict[str, Any]) -> dict[str, Any]:
    """Turns `{"model": {"d_model": 64}, "epochs": 5}` into `{"d_model": 64, "epochs": 5}`.

    Raises:
        InputError: A section is unknown or not a mapping.
    """
    names = [field.name for field in dataclasses.fields(Config)]
    settings: dict[str, Any] = {}
    for key, value in sections.items():
        if isinstance(value, dict):
            if key not in names:
                raise InputError(
                    f"Unknown section {brief(key)}; known are {', '.join(names)}."
                    + did_you_mean(key, names)
                )
            settings |= value
        elif key in names and value is not None:
            raise InputError(f"Section {brief(key)} must hold settings; got {brief(value)}.")
        elif key not in names:
            settings[key] = value
    return settings


def split_settings(settings: Iterable[str]) -> dict[str, str]:
    """Splits what a command line's `--set` gives, `key=value` each.

    Raises:
        InputError: One has no equals sign.
    """
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set takes key=value; got {brief(setting)}.")
        pairs[key] = value
    return pairs


def read_settings(path: str | Path) -> dict[str, Any]:
    """Reads settings from a YAML file, with or without sections.

    Raises:
        InputError: The file is missing, larger than 1 MiB or not a YAML mapping, or its aliases
            make more than 10,000 values of it.
    """
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold settings (key: value); got {brief(content)}.")
    return flatten(content)


def convert(name: str, value: Any, kind: Any) -> Any:
    """Makes a word of the command line, or a YAML value, fit a setting's type.

    Raises:
        InputError: It does not.
    """
    if get_origin(kind) is tuple:
        return _convert_names(name, value)
    kinds = [k for k in get_args(kind) if k is not type(None)] or [kind]
    optional = len(get_args(kind)) > len(kinds)
    if optional and (value is None or (isinstance(value, str) and value.lower() in _NULL)):
        return None
    (target,) = kinds
    try:
        if target is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise ValueError
        if target is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return target(value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise InputError(
            f"{name} must be of type {target.__name__}{' or null' if optional else ''}; "
            f"got {brief(value)}."
        ) from None


def _convert_names(name: str, value: Any) -> tuple[str, ...]:
    """Makes a list of names of `a,b`, of a YAML list or of null.

    Raises:
        InputError: It is something else.
    """
    if value is None or (isinstance(value, str) and value.lower() in _NULL):
        return ()
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
        raise InputError(f"{name} must be a list of names; got {brief(value)}.")
    return tuple(each.strip() for each in names if each.strip())
