"""What `train.py` and `warm_start.py` can set."""

import argparse
import dataclasses

from ktransformer.config.checks import check_range
from training.settings import RecipeSettings


@dataclasses.dataclass(frozen=True)
class Settings(RecipeSettings):
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
            check_range(self, name, least=1)
        check_range(self, "learning_rate", least=0, open_below=True)
        check_range(self, "seed", least=0, most=2**32 - 1)


def at_least_one(text: str) -> int:
    """Reads a number of a command line that must be at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {number}")
    return number
