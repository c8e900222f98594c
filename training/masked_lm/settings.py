"""What `train.py` and `warm_start.py` can set."""

import argparse
import dataclasses
from collections.abc import Iterable
from typing import Any

from ktransformer.config import convert, read_settings
from ktransformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a masked language model and of its training."""

    num_layers: int = 4
    """Blocks of the encoder."""
    d_model: int = 128
    """Width; a multiple of num_heads."""
    num_heads: int = 4
    """Attention heads."""
    hidden_dim: int = 256
    """Features of the feed-forward networks' inner layer."""
    dropout: float = 0.1
    """Dropout on embeddings and on the sublayers' outputs, in [0, 1)."""
    activation: str = "gelu"
    """Inner activation of the feed-forward networks, and that of the head."""
    positions: str = "learned"
    """learned, sinusoidal, sinusoidal_interleaved or none."""
    max_length: int = 128
    """The longest line in tokens, the end token included."""
    vocabulary_size: int = 8000
    """The most pieces of the vocabulary, the two of the mask included."""
    batch_tokens: int = 2048
    """The most tokens of a batch, padding included."""
    masked_share: float = 0.15
    """Share of the tokens to predict, in (0, 1]."""
    epochs: int = 20
    """Passes over the training text."""
    learning_rate: float = 2e-3
    """Peak of the inverse square root schedule."""
    warmup_steps: int = 500
    """Updates until the peak."""
    average_checkpoints: int = 5
    """The final weights are the mean over the last so many epochs."""
    seed: int = 1
    """Seed of weights, dropout, data order and masks."""

    def __post_init__(self) -> None:
        for name in ("epochs", "average_checkpoints", "warmup_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {name}={getattr(self, name)}.")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be above 0; got {self.learning_rate}.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be from 0 to {2**32 - 1}; got {self.seed}.")

    def replace(self, changes: dict[str, Any]) -> "Settings":
        """Returns a copy with some fields changed; a string is read as the field's type.

        Raises:
            InputError: A name is unknown (the message lists the known ones) or a value does not
                fit.
        """
        known = {field.name: type(field.default) for field in dataclasses.fields(self)}
        converted = {}
        for name, value in changes.items():
            if name not in known:
                raise InputError(f"Unknown setting {name!r}; known are {', '.join(sorted(known))}.")
            converted[name] = convert(name, value, known[name])
        return dataclasses.replace(self, **converted)


def at_least_one(text: str) -> int:
    """Reads a number of a command line that must be at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {number}")
    return number


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds `--config` and `--set` to a command line."""
    parser.add_argument("--config", metavar="FILE", help="settings in YAML")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="K=V", help="single settings"
    )


def chosen_settings(config: str | None, changes: Iterable[str]) -> Settings:
    """Reads the settings that a command line gives; `--set` comes after `--config`.

    Raises:
        InputError: The file or a setting does not fit.
    """
    settings = Settings() if config is None else Settings().replace(read_settings(config))
    pairs = [change.partition("=") for change in changes]
    for name, sign, _ in pairs:
        if not sign:
            raise InputError(f"--set takes name=value; got {name!r}.")
    return settings.replace({name: value for name, _, value in pairs})
